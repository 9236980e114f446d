/* Evidence of signatures: kept while it is what its id says, bounded per target, gone with what it belongs to; and the way from the schema without it. */
#include "store_evidence_rig.h"

/* Evidence of signatures: kept while it is what its id says, bounded per target, gone with what it belongs to; and the way from the schema without it. */
/* ---- tests */
static void test_save_load(void **state)
{
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture), top = name_digest("top"), module = content_digest(1, 1000);
        struct store_evidence rows[] = {
                row_of(manifest, "one", 10), row_of(manifest, "two", 20), row_of(top, "one", 30),
                { .target = module, .kind = "sidecar", .found_s = 5 },
                { .target = manifest, .kind = "simple", .where = "tag sha256-00.sig", .repository = "r/b", .body = "a\0b", .body_bytes = 3,
                  .extra = "{\"signature\":\"x\"}", .found_s = 15 },
        };
        struct store_proof proofs[] = { proof_of(&rows[0], "k1", "p", 100), proof_of(&rows[1], "k2", "p", 200), proof_of(&rows[3], "k1", "p", 300) };
        assert_true(store_save_evidence(fixture->store, rows, COUNT_OF(rows), proofs, COUNT_OF(proofs), &fixture->err));

        for (int i = 0; i < 2; i++) {
                struct seen seen = look(fixture, manifest);
                assert_int_equal(seen.rows, 3);
                assert_string_equal(seen.texts[0], "bundle|referrer sha256:00|r/a|two|{}|20");
                assert_string_equal(seen.texts[1], "simple|tag sha256-00.sig|r/b|a|{\"signature\":\"x\"}|15");
                assert_string_equal(seen.texts[2], "bundle|referrer sha256:00|r/a|one|{}|10");
                assert_int_equal(seen.proofs, 2);
                assert_true(digest_equal(&seen.proven[0], &seen.ids[0]));
                assert_true(digest_equal(&seen.proven[1], &seen.ids[2]));
                assert_int_equal(seen.last.proved_s, 100);
                assert_memory_equal(&seen.last, &proofs[0], sizeof proofs[0]);

                seen = look(fixture, top);
                assert_int_equal(seen.rows, 1);
                assert_int_equal(seen.proofs, 0);
                seen = look(fixture, module);
                assert_string_equal(seen.texts[0], "sidecar|||||5");
                assert_int_equal(seen.evidence.body_bytes, 0);
                assert_int_equal(seen.proofs, 1);
                assert_int_equal(look(fixture, name_digest("other")).rows, 0);
                assert_true(store_load_evidence(fixture->store, &module, NULL, NULL, NULL, &fixture->err));
                fixture_reopen(fixture);
        }
}

/* Every field but found_s and module is in the id, and where one ends the next does not begin. */
static void test_id(void **state)
{
        (void)state;
        const struct digest target = name_digest("t");
        const struct store_evidence rows[] = {
                { .target = target, .kind = "ab", .where = "c", .repository = "d", .body = "e", .body_bytes = 1, .extra = "f" },
                { .target = target, .kind = "a", .where = "bc", .repository = "d", .body = "e", .body_bytes = 1, .extra = "f" },
                { .target = target, .kind = "ab", .where = "", .repository = "cd", .body = "e", .body_bytes = 1, .extra = "f" },
                { .target = target, .kind = "ab", .where = "c", .repository = "", .body = "de", .body_bytes = 2, .extra = "f" },
                { .target = target, .kind = "ab", .where = "c", .repository = "d", .body = "ef", .body_bytes = 2, .extra = "" },
                { .target = target, .kind = "ab", .where = "c", .repository = "d", .body = "", .body_bytes = 0, .extra = "ef" },
                { .target = name_digest("u"), .kind = "ab", .where = "c", .repository = "d", .body = "e", .body_bytes = 1, .extra = "f" },
                { .target = target, .kind = "ab", .where = "c", .repository = "d", .body = "E", .body_bytes = 1, .extra = "f" },
        };
        struct digest ids[COUNT_OF(rows)];
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                store_hash_evidence(&rows[i], &ids[i]);
                for (size_t k = 0; k < i; k++)
                        assert_false(digest_equal(&ids[i], &ids[k]));
        }
        struct store_evidence later = rows[0];
        struct digest id;
        later.found_s = 9;
        later.module = name_digest("m");
        store_hash_evidence(&later, &id);
        assert_true(digest_equal(&id, &ids[0]));

        struct store_evidence empty = { .target = target }, blank = { .target = target, .kind = "", .where = "", .repository = "", .body = "x", .extra = "" };
        struct digest other;
        store_hash_evidence(&empty, &id);
        store_hash_evidence(&blank, &other);
        assert_true(digest_equal(&id, &other));
}

static void test_renew(void **state)
{
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture);
        struct store_evidence one = row_of(manifest, "one", 10), two = row_of(manifest, "two", 10);
        save(fixture, one, true);
        one.found_s = 30;
        save(fixture, one, true);
        one.found_s = 20;
        save(fixture, one, false);
        save(fixture, two, false);
        struct seen seen = look(fixture, manifest);
        assert_int_equal(seen.rows, 2);
        assert_string_equal(seen.texts[0], "bundle|referrer sha256:00|r/a|one|{}|30");
        assert_int_equal(seen.proofs, 1);
        assert_int_equal(seen.last.proved_s, 30);

        /* The proof of the same keys and policy follows to other evidence. */
        save(fixture, two, true);
        seen = look(fixture, manifest);
        assert_int_equal(seen.proofs, 1);
        assert_true(digest_equal(&seen.last.evidence, &seen.ids[1]));

        /* A damaged row is made good by the same evidence found again. */
        sql(fixture, "UPDATE evidence SET body = x'00', kind = 'x', place = 'x', repository = 'x', extra = 'x' WHERE found_s = 30;");
        one.found_s = 40;
        save(fixture, one, false);
        seen = look(fixture, manifest);
        assert_int_equal(seen.rows, 2);
        assert_string_equal(seen.texts[0], "bundle|referrer sha256:00|r/a|one|{}|40");
}

/* A proof says nothing without evidence for the same target. */
static void test_proof_alone(void **state)
{
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture);
        struct store_evidence one = row_of(manifest, "one", 10), never = row_of(manifest, "never saved", 10), elsewhere = row_of(name_digest("top"), "two", 10);
        struct store_proof proofs[] = { proof_of(&never, "k", "p", 1), proof_of(&elsewhere, "k", "p", 1), proof_of(&one, "k", "p", 1) };
        proofs[1].target = manifest;
        save(fixture, elsewhere, false);
        assert_true(store_save_evidence(fixture->store, NULL, 0, proofs, COUNT_OF(proofs), &fixture->err));
        assert_int_equal(look(fixture, manifest).proofs, 0);
        assert_int_equal(sql_number(fixture, "SELECT count(*) FROM proof;"), 0);
        save(fixture, one, false);
        assert_true(store_save_evidence(fixture->store, NULL, 0, proofs, COUNT_OF(proofs), &fixture->err));
        struct seen seen = look(fixture, manifest);
        assert_int_equal(seen.proofs, 1);
        assert_memory_equal(&seen.last, &proofs[2], sizeof proofs[2]);

        /* Put there by somebody else, without the database's own checks. */
        sql(fixture, "PRAGMA foreign_keys = OFF; UPDATE proof SET evidence = x'01%064d'; INSERT INTO proof SELECT target, x'02', policy, evidence, 1 FROM proof;", 7);
        assert_int_equal(look(fixture, manifest).proofs, 0);
        sql(fixture, "UPDATE proof SET evidence = (SELECT id FROM evidence WHERE CAST(body AS TEXT) = 'two');");
        assert_int_equal(look(fixture, manifest).proofs, 0);
}

static void test_limits(void **state)
{
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture), top = name_digest("top");
        char body[32];
        save(fixture, row_of(top, "of another target", 1), false);
        for (int i = 0; i < 70; i++) {
                snprintf(body, sizeof body, "body %d", i);
                save(fixture, row_of(manifest, body, i), i == 3);
        }
        struct seen seen = look(fixture, manifest);
        assert_int_equal(seen.rows, STORE_EVIDENCE_PER_TARGET_MAX);
        assert_string_equal(seen.texts[0], "bundle|referrer sha256:00|r/a|body 69|{}|69");
        assert_string_equal(seen.texts[62], "bundle|referrer sha256:00|r/a|body 7|{}|7");
        assert_string_equal(seen.texts[63], "bundle|referrer sha256:00|r/a|body 3|{}|3");
        assert_int_equal(seen.proofs, 1);
        assert_int_equal(look(fixture, top).rows, 1);

        /* All at once, and all of them proven: the oldest go with their proofs. */
        sql(fixture, "DELETE FROM proof; DELETE FROM evidence;");
        char bodies[70][16];
        struct store_evidence rows[70];
        struct store_proof proofs[70];
        for (int i = 0; i < 70; i++) {
                snprintf(bodies[i], sizeof bodies[i], "b%d", i);
                rows[i] = row_of(manifest, bodies[i], i);
                snprintf(body, sizeof body, "key %d", i);
                proofs[i] = proof_of(&rows[i], body, "p", i);
        }
        assert_true(store_save_evidence(fixture->store, rows, 70, proofs, 70, &fixture->err));
        seen = look(fixture, manifest);
        assert_int_equal(seen.rows, 64);
        assert_int_equal(seen.proofs, 64);
        assert_string_equal(seen.texts[63], "bundle|referrer sha256:00|r/a|b6|{}|6");
}

static void test_limit_bytes(void **state)
{
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture);
        static char body[STORE_EVIDENCE_BYTES_MAX + 1];
        struct store_evidence row = { .target = manifest, .body = body, .body_bytes = sizeof body };
        save(fixture, row_of(manifest, "small", 1), true);
        assert_false(try_save(fixture, row, false));
        assert_int_equal(fixture->err.code, ERROR_TOO_LARGE);
        row.body_bytes = sizeof body - 1;
        row.kind = "k";
        assert_false(try_save(fixture, row, false));
        assert_int_equal(fixture->err.code, ERROR_TOO_LARGE);
        row.body_bytes = SIZE_MAX;
        assert_false(store_save_evidence(fixture->store, &row, 1, NULL, 0, &fixture->err));
        assert_int_equal(look(fixture, manifest).rows, 1);

        /* A good row with one that is too large: neither. */
        struct store_evidence rows[] = { row_of(manifest, "good", 2), row };
        assert_false(store_save_evidence(fixture->store, rows, 2, NULL, 0, &fixture->err));
        assert_int_equal(look(fixture, manifest).rows, 1);

        /* Exactly the limit, alone; then it goes before what is proven. */
        sql(fixture, "DELETE FROM proof; DELETE FROM evidence;");
        row = (struct store_evidence){ .target = manifest, .body = body, .body_bytes = STORE_EVIDENCE_BYTES_MAX, .found_s = 1 };
        save(fixture, row, false);
        assert_int_equal(look(fixture, manifest).rows, 1);
        save(fixture, row_of(manifest, "small", 2), true);
        struct seen seen = look(fixture, manifest);
        assert_int_equal(seen.rows, 1);
        assert_string_equal(seen.texts[0], "bundle|referrer sha256:00|r/a|small|{}|2");

        /* A larger one that somebody put there, with an id that fits: not even read. */
        char id[DIGEST_TEXT_BYTES];
        uint8_t *zeros = calloc(1, STORE_EVIDENCE_BYTES_MAX + 1);
        row = (struct store_evidence){ .target = manifest, .body = zeros, .body_bytes = STORE_EVIDENCE_BYTES_MAX + 1 };
        store_hash_evidence(&row, &row.id);
        free(zeros);
        digest_format_hex(&row.id, id);
        sql(fixture, "INSERT INTO evidence SELECT x'01%s', target, '', '', '', '', 9, module, 9, zeroblob(%d) FROM evidence;", id, STORE_EVIDENCE_BYTES_MAX + 1);
        assert_int_equal(look(fixture, manifest).rows, 1);
        assert_int_equal(sql_number(fixture, "SELECT count(*) FROM evidence;"), 1);

        /* Mebibytes of evidence: the newest that fit stay. */
        for (int i = 0; i < 12; i++) {
                body[0] = (char)('a' + i);
                row = (struct store_evidence){ .target = manifest, .body = body, .body_bytes = 1 << 20, .found_s = 10 + i };
                save(fixture, row, false);
        }
        seen = look(fixture, manifest);
        assert_int_equal(seen.rows, 8);
        assert_int_equal(seen.proofs, 1);
        assert_true(sql_number(fixture, "SELECT sum(size_bytes) FROM evidence;") <= STORE_EVIDENCE_BYTES_MAX);
}

static void test_limit_proofs(void **state)
{
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture);
        struct store_evidence row = row_of(manifest, "one", 1);
        static struct store_proof proofs[STORE_PROOFS_PER_TARGET_MAX + 44];
        char key[32];
        for (size_t i = 0; i < COUNT_OF(proofs); i++) {
                snprintf(key, sizeof key, "key %zu", i);
                proofs[i] = proof_of(&row, key, "p", (int64_t)i);
        }
        assert_true(store_save_evidence(fixture->store, &row, 1, proofs, COUNT_OF(proofs), &fixture->err));
        struct seen seen = look(fixture, manifest);
        assert_int_equal(seen.proofs, STORE_PROOFS_PER_TARGET_MAX);
        assert_int_equal(seen.last.proved_s, 44);
}

/* Evidence has an owner, or it would never go. */
static void test_owner(void **state)
{
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture), module = content_digest(1, 1000);
        struct store_evidence rows[] = { row_of(manifest, "one", 1), row_of(name_digest("unknown"), "two", 1) };
        assert_false(store_save_evidence(fixture->store, rows, 2, NULL, 0, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_NOT_FOUND);
        assert_non_null(strstr(fixture->err.text, "sha256:"));
        assert_int_equal(look(fixture, manifest).rows, 0);
        rows[1].module = name_digest("unknown too");
        assert_false(try_save(fixture, rows[1], false));
        rows[1].module = module;
        save(fixture, rows[1], true);
        struct seen seen = look(fixture, name_digest("unknown"));
        assert_int_equal(seen.rows, 1);
        assert_true(digest_equal(&seen.evidence.module, &module));
        assert_false(try_save(fixture, (struct store_evidence){ .kind = "no target", .module = module }, false));
        assert_int_equal(fixture->err.code, ERROR_INTERNAL);
}

static void test_removal(void **state)
{
        struct fixture *fixture = *state;
        struct store_module one = content_put(fixture, 1, 1000), two = content_put(fixture, 2, 1000);
        /* An index of which two children were pulled, an image of its own, and one manifest seen below two indexes. */
        struct digest child_a = image_put(fixture, &one.sha256, "child a", "index"), child_b = image_put(fixture, &two.sha256, "child b", "index"), index = name_digest("index");
        struct digest alone = image_put(fixture, &one.sha256, "alone", "alone"), file = name_digest("file");
        image_put(fixture, &two.sha256, "shared", "index");
        image_put(fixture, &one.sha256, "below", "shared");
        struct digest shared = name_digest("shared");
        const struct digest targets[] = { child_a, child_b, index, alone, file, shared, one.sha256, two.sha256 };
        for (size_t i = 0; i < COUNT_OF(targets); i++) {
                struct store_evidence row = row_of(targets[i], "e", 1);
                if (digest_equal(&targets[i], &file))
                        row.module = one.sha256;
                save(fixture, row, true);
        }
        assert_false(store_remove_module(fixture->store, &one.sha256, one.created_s + 100, &fixture->err));
        for (size_t i = 0; i < COUNT_OF(targets); i++)
                assert_int_equal(look(fixture, targets[i]).proofs, 1);

        assert_true(store_remove_module(fixture->store, &one.sha256, one.created_s, &fixture->err));
        static const bool after_one[] = { false, true, true, false, false, true, false, true };
        for (size_t i = 0; i < COUNT_OF(targets); i++) {
                struct seen seen = look(fixture, targets[i]);
                assert_int_equal(seen.rows, after_one[i]);
                assert_int_equal(seen.proofs, after_one[i]);
        }
        assert_true(store_remove_module(fixture->store, &two.sha256, two.created_s, &fixture->err));
        assert_int_equal(sql_number(fixture, "SELECT count(*) FROM evidence;"), 0);
        assert_int_equal(sql_number(fixture, "SELECT count(*) FROM proof;"), 0);
        assert_false(try_save(fixture, row_of(child_a, "late", 1), false));
}

static void test_remove_proofs(void **state)
{
        static const struct { const char *target, *keys, *policy; size_t left; } rows[] = {
                { NULL, NULL, NULL, 0 }, { "manifest", NULL, NULL, 2 }, { NULL, "k1", NULL, 2 }, { NULL, NULL, "p2", 3 }, { "top", "k2", NULL, 3 }, { "top", "k2", "p2", 4 },
                { "nobody", NULL, NULL, 4 }, { NULL, "k3", NULL, 4 },
        };
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture), top = name_digest("top");
        struct store_evidence one = row_of(manifest, "one", 1), two = row_of(top, "two", 1);
        struct store_proof proofs[] = { proof_of(&one, "k1", "p1", 1), proof_of(&one, "k2", "p2", 1), proof_of(&two, "k1", "p1", 1), proof_of(&two, "k2", "p1", 1) };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct digest digests[3] = { 0 };
                const char *const names[] = { rows[i].target, rows[i].keys, rows[i].policy };
                for (int k = 0; k < 3; k++)
                        digests[k] = names[k] ? name_digest(names[k]) : (struct digest){ 0 };
                assert_true(store_save_evidence(fixture->store, (struct store_evidence[]){ one, two }, 2, proofs, 4, &fixture->err));
                assert_int_equal(look(fixture, manifest).proofs + look(fixture, top).proofs, 4);
                assert_true(store_remove_proofs(fixture->store, names[0] ? &digests[0] : NULL, names[1] ? &digests[1] : NULL, names[2] ? &digests[2] : NULL, &fixture->err));
                assert_int_equal(look(fixture, manifest).proofs + look(fixture, top).proofs, rows[i].left);
                assert_int_equal(look(fixture, manifest).rows + look(fixture, top).rows, 2);
        }
}

/* ---- many targets in one reading */
static struct fixture *hook_fixture;

static void delete_from_outside(void)
{
        if (hook_fixture)
                sql(hook_fixture, "PRAGMA foreign_keys = ON; DELETE FROM evidence;");
        hook_fixture = NULL;
}

static void test_targets(void **state)
{
        enum { COUNT = 120 };
        struct fixture *fixture = *state;
        struct store_module module = content_put(fixture, 1, 1000);
        static struct digest targets[COUNT + 1];
        struct seen *seen = calloc(1, sizeof *seen);
        char name[32];
        assert_true(store_load_targets(fixture->store, NULL, 0, &(struct store_evidence_visitor){ .arg = seen, .evidence = seen_row, .proof = seen_proof }, &fixture->err));
        for (int i = 0; i < COUNT; i++) {
                snprintf(name, sizeof name, "m%d", i);
                targets[i] = image_put(fixture, &module.sha256, name, name);
                save(fixture, row_of(targets[i], name, i), i % 2);
        }
        targets[COUNT] = name_digest("nobody");
        sql(fixture, "UPDATE evidence SET kind = 'x' WHERE found_s IN (5, 6);");

        /* Somebody deletes all of it as soon as the first is seen: this reading sees what was there when it began. */
        hook_fixture = fixture;
        seen->hook = delete_from_outside;
        assert_true(store_load_targets(fixture->store, targets, COUNT + 1, &(struct store_evidence_visitor){ .arg = seen, .evidence = seen_row, .proof = seen_proof }, &fixture->err));
        assert_int_equal(seen->rows, COUNT - 2);
        assert_int_equal(seen->proofs, COUNT / 2 - 1);
        assert_string_equal(seen->texts[0], "bundle|referrer sha256:00|r/a|m0|{}|0");
        *seen = (struct seen){ 0 };
        assert_true(store_load_targets(fixture->store, targets, COUNT + 1, &(struct store_evidence_visitor){ .arg = seen, .evidence = seen_row, .proof = NULL }, &fixture->err));
        assert_int_equal(seen->rows, 0);
        free(seen);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                ROW(test_save_load), cmocka_unit_test(test_id), ROW(test_renew), ROW(test_proof_alone), ROW(test_limits), ROW(test_limit_bytes), ROW(test_limit_proofs),
                ROW(test_owner), ROW(test_removal), ROW(test_remove_proofs), ROW(test_targets),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
