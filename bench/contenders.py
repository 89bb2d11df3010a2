"""What is measured side by side. Each contender knows how to start anew, back up, restore and push WAL."""

import pathlib
import shutil

from cluster import BIN, PORT, as_server, give_to_server
from measure import folder_bytes, run

WORKERS = 2
PASSPHRASE = "a pass phrase of the benchmark"


def fresh_folder(path):
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    path.chmod(0o700)
    give_to_server(path)
    return path


def pgbackrest_options(place, repository, data, socket, port, more=()):
    """The configuration file of one server's stanza, "bench", with folders for what pgBackRest keeps beside it: the same for every measure.
    `repository`: the lines that say where."""
    for folder in ("log", "lock", "spool"):
        fresh_folder(place / folder)
    options = place / "pgbackrest.conf"
    options.write_text("\n".join([
        "[global]", *repository, "repo1-cipher-type=aes-256-cbc", f"repo1-cipher-pass={PASSPHRASE}", "compress-type=zst",
        "compress-level=3", f"process-max={WORKERS}", *more, "log-level-console=warn", "log-level-file=off", f"log-path={place}/log",
        f"lock-path={place}/lock", f"spool-path={place}/spool", "",
        "[bench]", f"pg1-path={data}", f"pg1-socket-path={socket}", f"pg1-port={port}", "pg1-user=postgres", "pg1-database=postgres", ""]))
    return options


class Contender:
    name = ""
    encrypts = False
    pushes_wal = True
    binary = None

    def __init__(self, cluster):
        self.cluster = cluster
        self.place = cluster.folder / "contenders" / self.name
        self.repository = self.place / "repository"
        self.target = cluster.folder / "restored" / self.name

    def command(self, *words):
        return as_server(words)

    def measured(self, *words, **options):
        return run(self.command(*words), **options)

    def prepare(self):
        """An empty repository of its own."""
        for folder in (self.cluster.folder / "contenders", self.cluster.folder / "restored"):
            folder.mkdir(parents=True, exist_ok=True)
            give_to_server(folder)
        fresh_folder(self.place)
        fresh_folder(self.repository)

    def archive_line(self):
        return "exit 0"

    def repository_bytes(self):
        return folder_bytes(self.repository)

    def know_the_cluster(self):
        """Whatever must be there before WAL can be pushed."""

    def wal_bytes(self):
        """Of the repository, what is WAL."""
        return 0

    def backup(self):
        raise NotImplementedError

    def restore(self):
        raise NotImplementedError

    def prepare_restore(self):
        fresh_folder(self.target.parent)
        fresh_folder(self.target)

    def clean_restore(self):
        shutil.rmtree(self.target, ignore_errors=True)


class BaseBackup(Contender):
    name = "pg_basebackup"
    title = "pg_basebackup, plain"

    def backup(self):
        return self.measured(BIN / "pg_basebackup", "-d", self.cluster.connect(), "-D", self.repository / "base", "-X", "stream", "-c", "fast")

    def restore(self):
        return self.measured("sh", "-c", f"cp -a {self.repository}/base/. {self.target}/ && sync -f {self.target}")


class BaseBackupCompressed(Contender):
    name = "pg_basebackup-zstd"
    title = "pg_basebackup, zstd"

    def backup(self):
        return self.measured(BIN / "pg_basebackup", "-d", self.cluster.connect(), "-D", self.repository / "base", "-X", "stream", "-c", "fast", "-Ft",
                             f"--compress=client-zstd:level=3,workers={WORKERS}")

    def restore(self):
        base = self.repository / "base"
        return self.measured("sh", "-c", f"zstd -qdc {base}/base.tar.zst | tar -x -C {self.target} && "
                                         f"tar -x -C {self.target}/pg_wal -f {base}/pg_wal.tar && sync -f {self.target}")


class PgBackRest(Contender):
    name = "pgbackrest"
    title = "pgBackRest 2.45"
    encrypts = True
    program = "pgbackrest"
    more_options = ()

    def prepare(self):
        super().prepare()
        self.options = pgbackrest_options(self.place, self.repository_options(), self.cluster.data, self.cluster.socket, PORT,
                                          ["repo1-bundle=y", "repo1-retention-full=9", "start-fast=y", *self.more_options])
        run(self.command(*self.words("--no-online", "stanza-create")))

    def repository_options(self):
        return [f"repo1-path={self.repository}"]

    def words(self, *words):
        return [self.program, f"--config={self.options}", "--stanza=bench", *words]

    def archive_line(self):
        return "exec " + " ".join(str(word) for word in self.push('"$1"'))

    def backup(self):
        return self.measured(*self.words("--type=full", "backup"))

    def repository_bytes(self):
        return folder_bytes(self.repository, but=("archive",))

    def restore(self):
        return self.measured(*self.words(f"--pg1-path={self.target}", "--type=immediate", "restore"))

    def wal_bytes(self):
        return folder_bytes(self.repository / "archive")

    def push(self, segment):
        return self.words("archive-push", str(segment))


class Kuramori(Contender):
    name = "kuramori"
    title = "kuramori"
    encrypts = True

    def __init__(self, cluster, programs):
        super().__init__(cluster)
        # Where the server's user can reach them, whatever the checkout's rights are.
        self.programs = cluster.folder / "programs"
        self.programs.mkdir(parents=True, exist_ok=True)
        for program in ("kuramori", "kuramori-wal"):
            if (programs / program).exists():
                shutil.copy2(programs / program, self.programs / program)
        self.client = self.programs / ("kuramori-wal" if (programs / "kuramori-wal").exists() else "kuramori")

    def prepare(self):
        super().prepare()
        self.repository.rmdir()
        self.options = self.place / "kuramori.yaml"
        self.options.write_text(f"""vaults:
  bench: {{ at: "file://{self.repository}", site: here, key_file: {self.place}/owner.key }}
resources:
  bench:
    kind: postgres
    connect: "{self.cluster.connect('postgres')}"
    limits: {{ processes: {WORKERS} }}
plans:
  bench:
    resources: [bench]
    vault: bench
    schedule: "0 3 * * *"
    timezone: UTC
    wal: archive
    window: 14d
    keep: {{ all: 14d }}
    drill: {{ schedule: "0 5 1 * *", counts: off }}
""")
        run(self.command(*self.words("vault", "init", "bench")), env={"PATH": "/usr/bin:/bin", "KURAMORI_STATE": str(self.place / "state")})

    def words(self, *words):
        return [self.programs / "kuramori", "--config", self.options, *words]

    def archive_line(self):
        return "exec " + " ".join(str(word) for word in self.push('"$1"'))

    def backup(self):
        return self.measured(*self.words("backup", "bench", "--full", "--quiet"))

    def repository_bytes(self):
        return folder_bytes(self.repository, but=("wal",))

    def restore(self):
        return self.measured(*self.words("restore", "bench@latest", "--to", self.target, "--quiet"))

    def know_the_cluster(self):
        self.cluster.archive_with("exit 0")
        self.measured(*self.words("backup", "bench", "--quiet"))

    def wal_bytes(self):
        return folder_bytes(self.repository / "wal")

    def push(self, segment):
        # The small program with a vault and a key reads no configuration, as docs/postgres.md advises.
        return [self.client, "wal", "push", "--vault", self.repository, "--key-file", self.place / "owner.key", "--resource", "bench", str(segment)]
