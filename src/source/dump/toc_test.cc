// Which entries of a dump belong to a table.
#include "source/dump/toc.h"

#include <gtest/gtest.h>

#include "source/dump/conninfo.h"
#include "source/dump/fill.h"

namespace kuramori::dump {
namespace {

constexpr std::string_view kListing =
    ";\n; Archive created at 2026-11-22\n;\n"
    "6; 2615 16399 SCHEMA - S x postgres\n"
    "209; 1255 16413 FUNCTION public f() postgres\n"
    "202; 1259 16387 TABLE public users app\n"
    "2985; 0 0 COMMENT public TABLE users app\n"
    "2986; 0 0 COMMENT public COLUMN users.v app\n"
    "2987; 0 0 ACL public TABLE users app\n"
    "203; 1259 16500 TABLE public users archive app\n"
    "3001; 0 0 ACL public TABLE \"users archive\" app\n"
    "201; 1259 16385 SEQUENCE public users_id_seq app\n"
    "2988; 0 0 SEQUENCE OWNED BY public users_id_seq app\n"
    "2819; 2604 16390 DEFAULT public users id app\n"
    "2970; 0 16387 TABLE DATA public users app\n"
    "2971; 0 16500 TABLE DATA public users archive app\n"
    "2991; 0 0 SEQUENCE SET public users_id_seq app\n"
    "2822; 2606 16396 CONSTRAINT public users users_pkey app\n"
    "2832; 2606 16407 FK CONSTRAINT public users users_fkey app\n"
    "2826; 1259 16429 INDEX public users_v app\n"
    "2827; 0 0 COMMENT public INDEX users_v app\n"
    "2967; 0 16387 ROW SECURITY public users app\n";

DatabaseFacts facts() {
  DatabaseFacts facts;
  facts.tables = {{.oid = 16387,
                   .schema = "public",
                   .name = "users",
                   .quoted = "users",
                   .owner = "app",
                   .parts = {{{2606, 16396}, "CONSTRAINT", "public", "users_pkey", "users_pkey"},
                             {{2606, 16407}, "FK CONSTRAINT", "public", "users_fkey", "users_fkey"},
                             {{1259, 16429}, "INDEX", "public", "users_v", "users_v"},
                             {{2604, 16390}, "DEFAULT", "public", "", ""}}},
                  {.oid = 16500,
                   .schema = "public",
                   .name = "users archive",
                   .quoted = "\"users archive\"",
                   .owner = "app"}};
  facts.sequences = {{16385, 16387, "public", "users_id_seq", "users_id_seq", "app", 7}};
  return facts;
}

TEST(DumpEntries, of_a_table_are_all_that_is_its_and_nothing_else_S10) {
  EXPECT_EQ(
      choose_entries(kListing, facts(), {.tables = {16387}}),
      "202;\n2985;\n2986;\n2987;\n201;\n2988;\n2819;\n2970;\n2991;\n2822;\n2832;\n2826;\n2827;\n2967;\n");
  EXPECT_EQ(choose_entries(kListing, facts(), {.tables = {16500}}), "203;\n3001;\n2971;\n");
  EXPECT_EQ(choose_entries(kListing, facts(),
                           {.tables = {16500}, .besides = {{1255, 16413}}, .left_out = {{1259, 16500}}}),
            "209;\n3001;\n2971;\n");
  EXPECT_EQ(choose_entries("", facts(), {.tables = {16387}}), "");
  EXPECT_EQ(choose_entries("x; 1 2 y\n9;\n9; 1\n9; 1 2\n;", facts(), {.tables = {16387}}), "");
}

TEST(DumpFacts, are_read_as_they_were_written_and_damage_is_told) {
  DatabaseFacts one = facts();
  one.database = "o\"r'd\n";
  one.settings = {{"app", "search_path", "a, \"b\""}};
  one.has_grants = true;
  one.grants = {{"", "CONNECT", false}, {"app", "CREATE", true}};
  one.roles = {"app"};
  one.extensions = {{"pg_trgm", "1.6", "public"}};
  one.schemas = {{"public", "app"}};
  one.tables[0].rows = 12;
  one.tables[0].foreign_keys = {{16407, "users_fkey", 16500, "public", "users archive", "ALTER TABLE"}};
  one.tables[0].needs = {{{1247, 3}, "type", "public.mood"}};
  one.tables[1].uncounted = "it was never filled";
  one.counts.tables = 2;
  const Bytes text = encode_facts(one);
  const auto read = decode_facts(text);
  ASSERT_TRUE(read) << read.error().why;
  EXPECT_EQ(encode_facts(*read), text);
  EXPECT_EQ(read->database, one.database);
  EXPECT_EQ(read->tables[0].rows, 12u);
  EXPECT_FALSE(read->tables[1].rows);
  for (size_t size = 0; size + 1 < text.size(); size += 7)
    EXPECT_FALSE(decode_facts(ByteView(text).first(size))) << size;
}

TEST(DumpConninfo, keeps_what_is_secret_out_of_arguments) {
  const auto uri = Conninfo::parse("postgresql://me:s3cr3t@db:5433/or%20ders?sslmode=require");
  ASSERT_TRUE(uri);
  EXPECT_EQ(uri->get("dbname"), "or ders");
  EXPECT_EQ(uri->public_text().find("s3cr3t"), std::string::npos);
  EXPECT_NE(uri->text().find("s3cr3t"), std::string::npos);
  EXPECT_EQ(uri->environment().back(), (std::pair<std::string, std::string>("PGPASSWORD", "s3cr3t")));
  EXPECT_EQ(uri->describe(), "or ders at db:5433");
  auto quoted = Conninfo::parse("dbname='it''s' user=x");
  EXPECT_FALSE(quoted && quoted->get("dbname") == "it''s");
  auto odd = *Conninfo::parse("dbname=a");
  odd.set("dbname", "it's \\ odd");
  EXPECT_EQ(Conninfo::parse(odd.text())->get("dbname"), "it's \\ odd");
  const auto broken = Conninfo::parse("host=h password='s3cr3t");
  ASSERT_FALSE(broken);
  EXPECT_EQ((broken.error().what + broken.error().why).find("s3cr3t"), std::string::npos);
}

TEST(DumpSql, names_and_texts_are_quoted_whatever_they_hold) {
  EXPECT_EQ(quoted_name("a\"b"), "\"a\"\"b\"");
  EXPECT_EQ(quoted_literal("it's"), "'it''s'");
  EXPECT_EQ(quoted_literal("a\\b"), " E'a\\\\b'");
  DatabaseFacts of;
  of.encoding = "UTF8";
  of.collate = of.ctype = "C";
  of.locale_provider = "i";
  of.locale = "ja-JP";
  EXPECT_NE(create_statement(of, "x", "o", 15).find("ICU_LOCALE 'ja-JP' OWNER \"o\""), std::string::npos);
  EXPECT_EQ(create_statement(of, "x", "", 14).find("ICU"), std::string::npos);
}

}  // namespace
}  // namespace kuramori::dump
