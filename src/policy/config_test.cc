#include "policy/config.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace kuramori {
namespace {

ConfigWorld fake_world() {
  return {
      .environment = [](const std::string& name) -> std::optional<std::string> {
        if (name == "HOST") return "db1";
        return std::nullopt;
      },
      .read_file = [](const std::string& path) -> Result<std::string> {
        if (path == "/etc/kuramori/connect") return std::string("host=secret\n");
        return fail(ErrorKind::kNotFound, "cannot open " + path);
      },
      .run_command = [](const std::string& command) -> Result<std::string> {
        return "ran " + command + "\n";
      },
  };
}

Result<Config> read(std::string_view text) {
  return parse_config(text, "/etc/kuramori/kuramori.yaml", fake_world());
}

std::string refusal(std::string_view text) {
  auto config = read(text);
  if (config) return "accepted";
  EXPECT_EQ(config.error().kind, ErrorKind::kUsage);
  return config.error().what + " | " + config.error().next;
}

constexpr std::string_view kSmall = R"(vaults:
  tokyo:
    at: file:///srv/kuramori
resources:
  orders-db:
    kind: postgres
plans:
  orders:
    resources: [orders-db]
    vault: tokyo
)";

// The contract's own sample, word for word.
TEST(Config, ReadsTheWholeSample) {
  std::ifstream in(KURAMORI_SAMPLE_YAML);
  std::stringstream text;
  text << in.rdbuf();
  ASSERT_FALSE(text.str().empty());
  auto config = read(text.str());
  ASSERT_TRUE(config) << config.error().what << " " << config.error().why;
  ASSERT_EQ(config->vaults.size(), 2u);
  EXPECT_EQ(config->vaults[0].at, "/srv/kuramori");
  EXPECT_EQ(config->vaults[0].key_file, "/etc/kuramori/tokyo.owner.key");
  EXPECT_EQ(config->vaults[1].at, "s3://kuramori-osaka/prod");
  EXPECT_EQ(config->vaults[1].lock, *parse_period("14d"));
  EXPECT_EQ(config->vaults[1].access.profile, "kuramori");
  ASSERT_EQ(config->resources.size(), 6u);
  EXPECT_EQ(config->resources[0].limits.read, 200u << 20);
  EXPECT_EQ(config->resources[0].limits.network, 50u << 20);
  EXPECT_EQ(config->resources[0].limits.cpu, 0.5);
  EXPECT_EQ(config->resources[0].limits.nice, 10);
  EXPECT_EQ(config->resources[0].limits.io, IoPriority{.idle = true});
  EXPECT_EQ(config->resources[0].processes, 2);
  EXPECT_EQ(config->resources[4].command.run, (std::vector<std::string>{"terraform", "show", "-json"}));
  ASSERT_EQ(config->plans.size(), 1u);
  const PlanConfig& plan = config->plans[0];
  EXPECT_EQ(plan.timezone, "Asia/Tokyo");
  EXPECT_EQ(plan.wal, WalMode::kStream);
  EXPECT_EQ(plan.window, *parse_period("14d"));
  EXPECT_EQ(plan.keep.monthly, *parse_period("7y"));
  ASSERT_EQ(plan.copies.size(), 1u);
  EXPECT_EQ(plan.copies[0].to, "osaka");
  EXPECT_EQ(plan.copies[0].keep.all, *parse_period("14d"));
  ASSERT_TRUE(plan.drill);
  EXPECT_EQ(plan.drill->vault, "alternate");
  EXPECT_EQ(plan.drill->counts, DrillConfig::Counts::kBudget);
  EXPECT_EQ(plan.drill->budget, std::chrono::seconds(30));
  ASSERT_EQ(plan.drill->sql.size(), 2u);
  EXPECT_EQ(plan.drill->sql[1].expect, "t");
  EXPECT_EQ(config->notify.size(), 3u);
  EXPECT_EQ(config->plans_of("orders-db").size(), 1u);
}

TEST(Config, UnknownKeysNameLineKeyAndTheNearestKnownOne) {
  std::string text(kSmall);
  EXPECT_EQ(refusal(text + "    retension: 14d\n"),
            "/etc/kuramori/kuramori.yaml:11: unknown key \"retension\" in plan \"orders\" | correct line 11 "
            "of /etc/kuramori/kuramori.yaml");
  EXPECT_EQ(refusal(text + "    schedul: \"0 3 * * *\"\n"),
            "/etc/kuramori/kuramori.yaml:11: unknown key \"schedul\" in plan \"orders\" | did you mean "
            "\"schedule\"?");
  EXPECT_EQ(refusal(text + "    keep: { mothly: 7y }\n"),
            "/etc/kuramori/kuramori.yaml:11: unknown key \"mothly\" in keep of plan \"orders\" | did you "
            "mean \"monthly\"?");
  EXPECT_EQ(
      refusal("vault: {}\n"),
      "/etc/kuramori/kuramori.yaml:1: unknown key \"vault\" in the configuration | did you mean \"vaults\"?");
}

TEST(Config, DuplicateKeysAreRefused) {
  EXPECT_NE(
      refusal("vaults:\n  a:\n    at: /a\n    at: /b\n").find("kuramori.yaml:4: cannot be read as YAML"),
      std::string::npos);
  EXPECT_NE(read("vaults: {}\nvaults: {}\n").error().why.find("line 1"), std::string::npos);
}

TEST(Config, WrongValuesSayWhatWouldBeRight) {
  std::string text(kSmall);
  EXPECT_NE(refusal(text + "    window: 14\n").find("| write it as 90s"), std::string::npos);
  EXPECT_NE(refusal(text + "    schedule: \"0 25 * * *\"\n").find("schedule of plan \"orders\""),
            std::string::npos);
  EXPECT_NE(refusal(text + "    timezone: Asia/Tokio\n").find("timezone of plan \"orders\""),
            std::string::npos);
  EXPECT_NE(refusal(text + "    wal: steam\n").find("did you mean wal: stream"), std::string::npos);
  EXPECT_NE(refusal(text + "    keep: { last: 0 }\n").find("whole number"), std::string::npos);
  EXPECT_NE(refusal(text + "    schedule: \"0 3 * * *\"\n    every: 3h\n").find("keep one of the two"),
            std::string::npos);
  EXPECT_NE(refusal("resources:\n  a: { kind: postgress }\n").find("did you mean kind: postgres"),
            std::string::npos);
  EXPECT_NE(refusal("resources:\n  \"a b\": { kind: postgres }\n").find("cannot name a resource"),
            std::string::npos);
  EXPECT_NE(refusal("vaults:\n  a: { at: ftp://x }\n").find("no place for a vault"), std::string::npos);
  EXPECT_NE(refusal("- a\n- b\n").find("must be a map"), std::string::npos);
}

TEST(Config, LimitsSayWhatTheyCanBe) {
  const auto with = [](const std::string& limits) {
    return refusal("resources:\n  a: { kind: postgres, limits: { " + limits + " } }\n");
  };
  EXPECT_NE(with("netwrok: 1MiB/s").find("did you mean \"network\"?"), std::string::npos);
  EXPECT_NE(with("network: 1KiB/s").find("too slow for the network | write a rate as 20MiB/s"),
            std::string::npos);
  for (const char* share : {"50", "0%", "30000%", "%", "half", "nan%", "5 0%"})
    EXPECT_NE(with(fmt::format("cpu: \"{}\"", share)).find("write 50%, or 250%"), std::string::npos) << share;
  for (const char* nice : {"-1", "20", "1.5", "low"})
    EXPECT_NE(with(fmt::format("nice: {}", nice)).find("nice cannot be"), std::string::npos) << nice;
  for (const char* io : {"realtime", "best-effort:8", "best-effort:", "idle:1"})
    EXPECT_NE(with(fmt::format("io: \"{}\"", io)).find("write idle, or best-effort:7"), std::string::npos)
        << io;
  EXPECT_EQ(*parse_cpu_share("250%"), 2.5);
  EXPECT_EQ(format_cpu_share(2.5), "250%");
  EXPECT_EQ(format_io_priority(*parse_io_priority("best-effort")), "best-effort:4");
}

TEST(Config, NamesThatReferToNothingAreRefused) {
  EXPECT_NE(refusal("plans:\n  p: { resources: [x], vault: v }\n").find("there is no resource \"x\""),
            std::string::npos);
  std::string text(kSmall);
  EXPECT_NE(refusal(text + "    drill: { vault: tokio }\n").find("did you mean \"tokyo\"?"),
            std::string::npos);
  EXPECT_NE(refusal(text + "    copies: [ { to: osaka } ]\n").find("there is no vault \"osaka\""),
            std::string::npos);
}

TEST(Config, StringsComeFromFilesAndCommandsWhenAskedFor) {
  auto config = read(
      "resources:\n  a: { kind: postgres, connect_file: connect }\n  b: { kind: postgres, connect_command: "
      "pass show b }\n");
  ASSERT_TRUE(config) << config.error().what;
  ConfigWorld world = fake_world();
  EXPECT_EQ(*config->resources[0].connect.fetch(world), "host=secret");
  EXPECT_EQ(config->resources[0].connect.origin(), "the file /etc/kuramori/connect");
  EXPECT_EQ(*config->resources[1].connect.fetch(world), "ran pass show b");
  EXPECT_NE(
      refusal("resources:\n  a: { kind: postgres, connect: x, connect_file: y }\n").find("is given twice"),
      std::string::npos);
}

TEST(Config, ExpandsTheEnvironmentAndRefusesWhatIsNotThere) {
  auto config = read("resources:\n  a: { kind: postgres, connect: \"host=${HOST} password=$${HOST}\" }\n");
  ASSERT_TRUE(config);
  EXPECT_EQ(*config->resources[0].connect.fetch(fake_world()), "host=db1 password=${HOST}");
  EXPECT_NE(refusal("resources:\n  a: { kind: postgres, connect: \"${NOPE}\" }\n").find("no variable NOPE"),
            std::string::npos);
  EXPECT_NE(refusal("resources:\n  a: { kind: postgres, connect: \"${NOPE\" }\n").find("${ must be followed"),
            std::string::npos);
}

TEST(Config, PathsAreRelativeToTheFile) {
  auto config = read("vaults:\n  a: { at: ../vault, key_file: a.key }\n");
  ASSERT_TRUE(config) << config.error().what;
  EXPECT_EQ(config->vaults[0].at, "/etc/vault");
  EXPECT_EQ(config->vaults[0].key_file, "/etc/kuramori/a.key");
}

TEST(Config, KindsToComeAreReadAndRefusedWhereUsed) {
  auto config =
      read("resources:\n  s: { kind: aws }\n  t: { kind: redis, connect: \"redis://127.0.0.1\" }\n");
  ASSERT_TRUE(config);
  auto refused = check_supported(config->resources[0]);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().what, "resource \"s\": kind aws is not supported yet");
  EXPECT_NE(refused.error().why.find("redis"), std::string::npos) << refused.error().why;
  EXPECT_TRUE(check_supported(config->resources[1]));
}

TEST(Config, ReadsWhatEachKindHasOfItsOwn) {
  auto config = read(
      "resources:\n"
      "  f: { kind: files, paths: [/x], include: [a], exclude: [b, c], one_filesystem: true, "
      "snapshot: off }\n"
      "  r: { kind: redis, connect: \"redis://h\", capture: save, data_dir: /var/lib/redis, aof: true }\n"
      "  c: { kind: command, run: [a, b], folder: /y, restore: [d], shrink_max: 20%, timeout: 5m }\n"
      "  s: { kind: secret, paths: [/z/.env] }\n"
      "  d: { kind: dump, connect: \"dbname=o\", tables: [a, s.b], programs: /p, password_file: x, timeout: "
      "3h }\n");
  ASSERT_TRUE(config) << config.error().what;
  const auto& [f, r, c, s] =
      std::tie(config->resources[0], config->resources[1], config->resources[2], config->resources[3]);
  EXPECT_EQ(f.files.include, std::vector<std::string>{"a"});
  EXPECT_EQ(f.files.exclude.size(), 2u);
  EXPECT_TRUE(f.files.one_filesystem);
  EXPECT_EQ(f.files.snapshot, FilesConfig::Snapshot::kOff);
  EXPECT_EQ(r.redis.capture, RedisConfig::Capture::kSave);
  EXPECT_EQ(r.redis.data_dir, "/var/lib/redis");
  EXPECT_TRUE(r.redis.append_only);
  EXPECT_EQ(c.command.run.size(), 2u);
  EXPECT_EQ(c.command.folder, "/y");
  EXPECT_EQ(c.command.restore, std::vector<std::string>{"d"});
  EXPECT_DOUBLE_EQ(*c.command.shrink_max, 0.2);
  EXPECT_TRUE(c.command.timeout);
  EXPECT_EQ(s.secret.paths.size(), 1u);
  const ResourceConfig& d = config->resources[4];
  EXPECT_EQ(d.dump.tables, (std::vector<std::string>{"a", "s.b"}));
  EXPECT_EQ(d.dump.programs, "/p");
  EXPECT_TRUE(d.connect.is_set() && d.dump.password.is_set() && d.dump.timeout);
  // A variable of a program's environment is a setting: its value may stand in a file.
  auto with =
      read("resources:\n  c: { kind: command, run: [a], environment: { A: b, TOKEN_file: connect } }\n");
  ASSERT_TRUE(with) << with.error().what;
  const auto& environment = with->resources[0].command.environment;
  ASSERT_EQ(environment.size(), 2u);
  EXPECT_EQ(environment[0].name, "A");
  EXPECT_EQ(*environment[0].value.fetch(fake_world()), "b");
  EXPECT_EQ(environment[1].name, "TOKEN");
  EXPECT_EQ(*environment[1].value.fetch(fake_world()), "host=secret");
  // What another kind has would be taken and have no effect.
  for (const char* wrong :
       {"{ kind: files, paths: [/x], run: [a] }", "{ kind: redis, connect: x, paths: [/x] }",
        "{ kind: command, run: [a], capture: save }", "{ kind: postgres, exclude: [a] }",
        "{ kind: redis, connect: x, capture: host }", "{ kind: command, run: [a], shrink_max: much }",
        "{ kind: files, paths: [/x], one_filesystem: perhaps }",
        "{ kind: files, paths: [/x], snapshot: lvm }", "{ kind: git, url: /x, webhook: { secret: y } }",
        "{ kind: git, url: /x, webhook: { listen: \"h:1\" } }",
        "{ kind: files, paths: [/x], password_file: y }",
        "{ kind: postgres, connect: x, hooks: { before: [a] } }"})
    EXPECT_FALSE(refusal(std::string("resources:\n  a: ") + wrong + "\n").empty()) << wrong;
}

TEST(Config, images_have_a_registry_and_perhaps_a_second_one) {
  auto config = read(
      "resources:\n"
      "  i: { kind: image, registry: \"https://registry.example\", images: [team/app, \"base:v1\"],\n"
      "       platforms: [linux/amd64], user: backup, password_file: /etc/kuramori/connect, ca_file: "
      "ca.pem,\n"
      "       replicate: { to: \"docker://second.example/mirror\", insecure: true } }\n");
  ASSERT_TRUE(config) << config.error().what << " " << config.error().why;
  const ImageConfig& image = config->resources[0].image;
  EXPECT_EQ(image.registry, "https://registry.example");
  EXPECT_EQ(image.images, (std::vector<std::string>{"team/app", "base:v1"}));
  EXPECT_EQ(image.platforms, std::vector<std::string>{"linux/amd64"});
  EXPECT_EQ(image.password.fetch(fake_world()).value(), "host=secret");
  EXPECT_EQ(image.ca_file, "/etc/kuramori/ca.pem");
  EXPECT_FALSE(image.insecure);
  EXPECT_EQ(image.replicate.to, "docker://second.example/mirror");
  EXPECT_TRUE(image.replicate.insecure);
  EXPECT_NE(refusal("resources:\n  i: { kind: image, registry: r, images: a, replicate: { user: x } }\n")
                .find("replicates to nowhere"),
            std::string::npos);
}

TEST(Config, ReadsWhereAGitRepositoryIs) {
  auto config = read(
      "resources:\n"
      "  g: { kind: git, url: \"https://h/x.git\", user: u, password_file: connect, ca_file: ca.pem, lfs: "
      "false, timeout: 5m }\n"
      "  h: { kind: git, url_file: connect, ssh_key_file: /k, known_hosts_file: /h, lfs_url: \"https://l/x\" "
      "}\n");
  ASSERT_TRUE(config) << config.error().what;
  const GitConfig &g = config->resources[0].git, &h = config->resources[1].git;
  EXPECT_EQ(*g.url.fetch(fake_world()), "https://h/x.git");
  EXPECT_EQ(g.user, "u");
  EXPECT_EQ(*g.password.fetch(fake_world()), "host=secret");
  EXPECT_EQ(g.ca_file, "/etc/kuramori/ca.pem");
  EXPECT_EQ(g.lfs, GitConfig::Lfs::kOff);
  EXPECT_TRUE(g.timeout);
  EXPECT_EQ(*h.url.fetch(fake_world()), "host=secret") << "an address may hold a password";
  EXPECT_EQ(h.ssh_key_file, "/k");
  EXPECT_EQ(h.known_hosts_file, "/h");
  EXPECT_EQ(h.lfs_url, "https://l/x");
  EXPECT_EQ(h.lfs, GitConfig::Lfs::kAuto);
  for (const char* wrong : {"{ kind: git }", "{ kind: git, url: x, lfs: perhaps }",
                            "{ kind: git, url: x, paths: [/x] }", "{ kind: files, paths: [/x], url: y }"})
    EXPECT_NE(refusal(std::string("resources:\n  a: ") + wrong + "\n"), "accepted") << wrong;
}

TEST(Config, A1_B9_L6_M5_N6_O4_what_must_be_true_beyond_plans_is_read) {
  auto config = read(
      "vaults:\n"
      "  a: { at: /a, site: tokyo, capacity: 2TiB, full: 90%, snapshots_max: 100 }\n"
      "resources:\n"
      "  d: { kind: dump, connect: x, criticality: critical, stage: production, depends_on: [e],\n"
      "       objectives: { rpo: 1h, rto: 4h, mttr: 2h },\n"
      "       maintenance: [ { schedule: \"0 17 * * SUN\", timezone: Asia/Tokyo, lasts: 2h } ] }\n"
      "  e: { kind: secret, paths: [/e] }\n"
      "plans:\n"
      "  p: { resources: [d], vault: a, schedule: manual, copies: [ { to: a, within: 15m } ],\n"
      "       thresholds: { age: 24h, copy_lag: 15m, size: 50%, duration: 200%, failures: 1, "
      "failures_within: 1h } }\n"
      "services:\n"
      "  auth: { within: 30m, takes: 5m, needs: [db], criticality: critical, owner: lead }\n"
      "  db: { within: 1h, resources: [d] }\n"
      "  eyes: { within: 4h, watches: all }\n"
      "scenarios: { quake: { lost: tokyo, from: a, resources: [d] } }\n"
      "exercises: { yearly: { schedule: \"0 10 1 9 *\", timezone: Asia/Tokyo, scenarios: [quake] } }\n"
      "compliance:\n"
      "  law: { resources: [d], keep: 7y, locked: 1y, proof: 3mo, exercise: 1y, copies: 3, sites: 2,\n"
      "         audit: { online: 90d, archive: 3y }, escrow: true, split_roles: true }\n"
      "contacts: { lead: { role: db, mail: db@example.jp, phone: \"+81\", slack: \"#db\" } }\n"
      "notify:\n"
      "  - { name: ops, to: x, when: failure, resources: [d], least: high, digest: 1h,\n"
      "      quiet: { from: \"22:00\", until: \"07:30\", timezone: Asia/Tokyo },\n"
      "      escalate: [ { after: 15m, to_file: connect } ] }\n"
      "approvals: { people: 2, for: [prune], by: [lead], valid_for: 24h }\n"
      "audit: { online: 90d, archive: 3y }\n");
  ASSERT_TRUE(config) << config.error().what << " " << config.error().why << " " << config.error().next;
  EXPECT_EQ(config->vaults[0].capacity, uint64_t{2} << 40);
  EXPECT_DOUBLE_EQ(*config->vaults[0].full, 0.9);
  EXPECT_EQ(config->vaults[0].snapshots_max, 100);
  EXPECT_EQ(config->vaults[0].lines.of("full"), 2);
  EXPECT_EQ(config->resources[0].mttr, *parse_period("2h"));
  EXPECT_EQ(config->resources[0].maintenance[0].timezone, "Asia/Tokyo");
  EXPECT_EQ(config->resources[0].lines.of("objectives"), 5);
  EXPECT_EQ(config->resources[0].lines.of("connect"), 4);
  EXPECT_EQ(config->resources[0].lines.of("owner"), 4) << "what is not there stands where the resource does";
  EXPECT_GT(rank_of_criticality("critical"), rank_of_criticality("low"));
  EXPECT_EQ(rank_of_criticality(""), 0);
  const PlanConfig& plan = config->plans[0];
  EXPECT_TRUE(plan.manual);
  EXPECT_EQ(plan.schedule.dialect, Schedule::Dialect::kNone);
  EXPECT_EQ(plan.copies[0].within, *parse_period("15m"));
  EXPECT_DOUBLE_EQ(*plan.thresholds.duration, 2);
  EXPECT_EQ(plan.thresholds.failures, 1);
  EXPECT_EQ(config->services[0].needs, std::vector<std::string>{"db"});
  EXPECT_EQ(config->scenarios[0].from, "a");
  EXPECT_EQ(config->exercises[0].schedule.text, "0 10 1 9 *");
  EXPECT_EQ(config->compliance[0].audit_archive, *parse_period("3y"));
  EXPECT_TRUE(config->compliance[0].split_roles);
  EXPECT_EQ(config->contacts[0].mail, "db@example.jp");
  EXPECT_EQ(config->notify[0].quiet->until, 7 * 60 + 30);
  EXPECT_EQ(*config->notify[0].escalate[0].to.fetch(fake_world()), "host=secret");
  EXPECT_EQ(config->approvals->people, 2);
  EXPECT_EQ(config->audit->archive, *parse_period("3y"));
}

TEST(Config, what_people_and_duties_refer_to_must_be_there) {
  const std::string start =
      "vaults: { v: { at: /v, site: tokyo } }\nresources: { r: { kind: files, paths: [/x] } }\n";
  const auto with = [&](const std::string& more) { return refusal(start + more); };
  EXPECT_NE(with("services: { a: { needs: [b] } }\n").find("there is no service \"b\""), std::string::npos);
  EXPECT_NE(with("services: { aa: { watches: [a] } }\n").find("did you mean \"aa\"?"), std::string::npos);
  EXPECT_NE(with("scenarios: { q: { lost: tokio, from: v } }\n").find("did you mean \"tokyo\"?"),
            std::string::npos);
  EXPECT_NE(with("scenarios: { q: { lost: tokyo, from: w } }\n").find("there is no vault \"w\""),
            std::string::npos);
  EXPECT_NE(with("scenarios: { q: { lost: tokyo } }\n").find("write lost: SITE, from: VAULT"),
            std::string::npos);
  EXPECT_NE(with("exercises: { e: { schedule: \"0 0 1 1 *\", scenarios: [q] } }\n").find("no scenario \"q\""),
            std::string::npos);
  EXPECT_NE(with("exercises: { e: {} }\n").find("has no schedule"), std::string::npos);
  EXPECT_NE(with("compliance: { c: { resources: [rr] } }\n").find("there is no resource \"rr\""),
            std::string::npos);
  EXPECT_NE(with("notify: [ { to: x, when: [failur] } ]\n").find("did you mean when: failure"),
            std::string::npos);
  EXPECT_NE(
      with("notify: [ { to: x, quiet: { from: \"25:00\", until: \"07:00\" } } ]\n").find("no time of day"),
      std::string::npos);
  EXPECT_NE(with("notify: [ { when: [failure] } ]\n").find("tells nobody"), std::string::npos);
  EXPECT_NE(with("notify: [ { to: x, escalate: [ { to: y } ] } ]\n").find("needs after and to"),
            std::string::npos);
  EXPECT_NE(with("approvals: { by: [me] }\n").find("there is no contact \"me\""), std::string::npos);
  EXPECT_NE(with("approvals: { for: [purge] }\n").find("did you mean for: prune"), std::string::npos);
  EXPECT_NE(refusal("resources: { r: { kind: files, paths: [/x], criticality: Critical } }\n")
                .find("did you mean criticality: critical"),
            std::string::npos);
  EXPECT_NE(
      refusal(
          "resources: { r: { kind: files, paths: [/x], maintenance: [ { schedule: \"0 0 1 * *\" } ] } }\n")
          .find("needs schedule and lasts"),
      std::string::npos);
}

TEST(Config, HostileYamlEndsInAnError) {
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 10; ++i) {
    std::string before = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int k = 0; k < 10; ++k) bomb += (k ? "," : "") + before;
    bomb += "]\n";
  }
  EXPECT_NE(refusal(bomb), "accepted");
  EXPECT_NE(refusal(std::string(10'000, '[')), "accepted");
  EXPECT_NE(refusal("vaults: !!python/object:x {}\n"), "accepted");
  EXPECT_NE(refusal("vaults: {}\n---\nplans: {}\n"), "accepted");
  EXPECT_NE(refusal("? [a]\n: b\n"), "accepted");
  EXPECT_NE(refusal("a: *a\n"), "accepted");
  EXPECT_NE(refusal("a: &a [*a]\n"), "accepted");
  EXPECT_EQ(refusal(""), "accepted");
  EXPECT_EQ(refusal("# nothing\n"), "accepted");
}

TEST(Schedule, FiveFieldsOrAws) {
  for (const char* good :
       {"0 */3 * * *", "0 5 1 * *", "*/15 8-18 * * MON-FRI", "0,30 0 1,15 jan,jul 0", "cron(0 */3 * * ? *)",
        "cron(0 5 L * ? *)", "cron(0 5 ? * 6#3 2026-2030)", "cron(0 5 15W * ? *)"})
    EXPECT_TRUE(parse_schedule(good)) << good;
  for (const char* bad :
       {"", "0", "* * * *", "* * * * * *", "60 * * * *", "0 24 * * *", "0 0 0 * *", "0 0 * 13 *", "0 0 * * 8",
        "*/0 * * * *", "5-1 * * * *", "a * * * *", "cron(0 3 * * * *)", "cron(0 3 ? * ? *)",
        "cron(0 3 * * ?)", "0 3 ? * *", "-1 * * * *", "1,,2 * * * *", "0 3 * * L"})
    EXPECT_FALSE(parse_schedule(bad)) << bad;
}

TEST(Config, ReadsWhatTheDaemonDoesByItself) {
  const std::string vault = "vaults:\n  v: { at: /srv/v, key_file: /k";
  auto usual = read(vault + " }\n");
  ASSERT_TRUE(usual);
  EXPECT_EQ(usual->vaults[0].upkeep.prune.text, "0 6 * * *");
  EXPECT_EQ(usual->vaults[0].upkeep.scrub_budget, std::chrono::minutes(10));
  EXPECT_EQ(usual->daemon.jobs, 4);
  auto own =
      read(vault +
           ", upkeep: { prune: off, scrub: \"cron(0 1 ? * SUN *)\", scrub_budget: 2h, timezone: Asia/Tokyo } "
           "}\ndaemon: { jobs: 9, drills: 2 }\n");
  ASSERT_TRUE(own) << own.error().what;
  const UpkeepConfig& upkeep = own->vaults[0].upkeep;
  EXPECT_EQ(upkeep.prune.dialect, Schedule::Dialect::kNone);
  EXPECT_EQ(upkeep.collect.text, "30 6 * * *");
  EXPECT_EQ(upkeep.scrub.dialect, Schedule::Dialect::kAws);
  EXPECT_EQ(upkeep.scrub_budget, std::chrono::hours(2));
  EXPECT_EQ(upkeep.timezone, "Asia/Tokyo");
  EXPECT_EQ(own->daemon.jobs, 9);
  EXPECT_EQ(own->daemon.jobs_per_vault, 9);
  EXPECT_EQ(own->daemon.drills, 2);
  EXPECT_NE(refusal(vault + ", upkeep: { prune: daily } }\n").find("prune of upkeep of vault \"v\""),
            std::string::npos);
  EXPECT_NE(refusal(vault + ", upkeep: { scrub_budget: 1mo } }\n").find("fixed length"), std::string::npos);
  EXPECT_NE(refusal(vault + ", upkeep: { timezone: Asia/Tokio } }\n").find("timezone of upkeep"),
            std::string::npos);
  EXPECT_NE(refusal(vault + " }\ndaemon: { job: 3 }\n").find("\"jobs\""), std::string::npos);
}

TEST(Config, ReadsHowAServerIsCaptured) {
  auto config = read(
      "resources:\n  a: { kind: postgres, connect: x }\n  b: { kind: postgres, connect: x, capture: "
      "replication }\n  c: { kind: postgres, connect: x, capture: host }\n");
  ASSERT_TRUE(config) << config.error().why;
  EXPECT_EQ(config->resources[0].postgres.capture, PostgresConfig::Capture::kAuto);
  EXPECT_EQ(config->resources[1].postgres.capture, PostgresConfig::Capture::kReplication);
  EXPECT_EQ(config->resources[2].postgres.capture, PostgresConfig::Capture::kHost);
  EXPECT_NE(refusal("resources:\n  a: { kind: postgres, connect: x, capture: remote }\n").find("capture"),
            std::string::npos);
  EXPECT_NE(refusal("resources:\n  a: { kind: files, paths: [/x], capture: host }\n")
                .find("is of kind files and has capture"),
            std::string::npos);
}

TEST(Config, WhereTheDaemonIsAskedAndByWhom) {
  const std::string hash = "sha256:" + std::string(64, 'a');
  const auto with = [&](std::string_view listen) {
    return std::string(kSmall) + "listen:\n" + std::string(listen);
  };
  auto config = read(with("  address: \"[::1]:80\"\n  tokens:\n    - { name: a, role: viewer, hash: \"" +
                          hash + "\" }\n    - { name: b, role: owner, token_file: /b }\n"));
  ASSERT_TRUE(config) << config.error().what;
  ASSERT_EQ(config->listen->tokens.size(), 2u);
  EXPECT_EQ(config->listen->tokens[1].token.file(), "/b");
  EXPECT_EQ(read(with("  insecure: false\n"))->listen->address, kListenUsually);
  EXPECT_FALSE(read(kSmall)->listen);
  for (const std::string_view mine : {"127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1"})
    EXPECT_TRUE(is_loopback(mine)) << mine;
  for (const std::string_view others :
       {"0.0.0.0:1", "[::]:1", "127.example.jp:1", "192.0.2.1:1", "localhost.jp:1"})
    EXPECT_FALSE(is_loopback(others)) << others;
  EXPECT_NE(refusal(with("  address: \"0.0.0.0:80\"\n")).find("would show tokens to the network"),
            std::string::npos);
  EXPECT_TRUE(read(with("  address: \"0.0.0.0:80\"\n  tls: { cert_file: c, key_file: k }\n")));
  EXPECT_TRUE(read(with("  address: \"0.0.0.0:80\"\n  insecure: true\n")));
  EXPECT_NE(refusal(with("  tls: { cert_file: c }\n")).find("needs cert_file and key_file"),
            std::string::npos);
  const auto token = [&](const std::string& one) {
    return refusal(with("  tokens:\n    - { " + one + " }\n"));
  };
  EXPECT_NE(token("name: a, role: viewer, token: abc").find("holds a token in clear"), std::string::npos);
  EXPECT_NE(token("name: a, role: viewer").find("needs one of hash and token_file"), std::string::npos);
  EXPECT_NE(token("name: a, hash: \"" + hash + "\"").find("needs a name and a role"), std::string::npos);
  EXPECT_NE(token("name: a, role: admin, token_file: /b").find("cannot be \"admin\""), std::string::npos);
  EXPECT_NE(token("name: a, role: viewer, hash: md5").find("has a hash that is none"), std::string::npos);
  EXPECT_EQ(read(with("  public_url: https://db1:9847/\n"))->listen->public_url, "https://db1:9847");
  EXPECT_TRUE(read(with("  public_url: http://127.0.0.1:9847\n")));
  EXPECT_TRUE(read(with("  public_url: http://db1:9847\n  insecure: true\n")));
  EXPECT_NE(refusal(with("  public_url: http://db1:9847\n")).find("over the network in clear"),
            std::string::npos);
  for (const std::string_view wrong : {"db1:9847", "https://", "https://db1/path", "ftp://db1"})
    EXPECT_NE(refusal(with("  public_url: \"" + std::string(wrong) + "\"\n")).find("is no address"),
              std::string::npos)
        << wrong;
  EXPECT_NE(
      refusal(
          with("  tokens:\n    - { name: a, role: viewer, token_file: /b }\n    - { name: a, role: owner, "
               "token_file: /c }\n"))
          .find("two tokens are called"),
      std::string::npos);
}

TEST(Config, M2_OtherPeoplesScripts) {
  const std::string hash = "sha256:" + std::string(64, 'a');
  const auto with = [&](const std::string& ping) {
    return std::string(kSmall) + "listen: { address: \"127.0.0.1:1\" }\npings:\n  nightly: { " + ping +
           " }\n";
  };
  const auto config = read(with("schedule: \"0 3 * * *\", timezone: Asia/Tokyo, hash: \"" + hash + "\""));
  ASSERT_TRUE(config) << config.error().what;
  EXPECT_EQ(config->pings.front().grace, kPingGraceUnsaid);
  EXPECT_EQ(config->pings.front().token.name, "nightly");
  EXPECT_TRUE(read(with("every: 15m, grace: 5m, token_file: /b")));
  EXPECT_NE(refusal(with("hash: \"" + hash + "\"")).find("needs one of schedule and every"),
            std::string::npos);
  EXPECT_NE(refusal(with("every: 1h, schedule: \"0 3 * * *\", token_file: /b")).find("needs one of schedule"),
            std::string::npos);
  EXPECT_NE(refusal(with("every: 15m")).find("needs one of hash and token_file"), std::string::npos);
  EXPECT_NE(refusal(with("every: 15m, token: abc")).find("holds a token in clear"), std::string::npos);
  EXPECT_NE(refusal(with("every: 15m, token_file: /b, resource: none")).find("ping \"nightly\""),
            std::string::npos);
  EXPECT_NE(refusal(std::string(kSmall) + "listen: { address: \"127.0.0.1:1\" }\n"
                                          "pings: { team/a: { every: 1h, token_file: /b } }\n")
                .find("write - instead"),
            std::string::npos);
  EXPECT_NE(
      refusal(std::string(kSmall) + "pings: { a: { every: 1h, token_file: /b } }\n").find("cannot be called"),
      std::string::npos);
}

}  // namespace
}  // namespace kuramori
