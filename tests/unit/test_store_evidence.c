/* Evidence of signatures: kept while it is what its id says, bounded per target, gone with what it belongs to; and the way from the schema without it. */
#include "test_store_tools.h"

/* ---- an operator, or an attacker, with a sqlite3 shell */
static UNUSED void sql(const struct fixture *fixture, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void sql(const struct fixture *fixture, const char *format, ...)
{
        char command[1000];
        char *text = NULL;
        va_list list;
        va_start(list, format);
        assert_true(vasprintf(&text, format, list) > 0);
        va_end(list);
        file_write(fixture_path(fixture, "../sql"), text, strlen(text));
        free(text);
        snprintf(command, sizeof command, "sqlite3 -bail '%s/index.sqlite' '.timeout 10000' '.read %s/sql' > '%s/out'", fixture->root, fixture->folder, fixture->folder);
        assert_int_equal(system(command), 0);
}

static long sql_number(const struct fixture *fixture, const char *query)
{
        long number = -1;
        sql(fixture, "%s", query);
        FILE *file = fopen(fixture_path(fixture, "../out"), "r");
        assert_non_null(file);
        assert_int_equal(fscanf(file, "%ld", &number), 1);
        fclose(file);
        return number;
}

/* ---- what is seen */
enum { SEEN_MAX = 400 };
struct seen {
        size_t rows, proofs;
        char texts[SEEN_MAX][160];
        struct digest ids[SEEN_MAX], proven[SEEN_MAX];
        struct store_proof last;
        struct store_evidence evidence;
        void (*hook)(void);
};

static void seen_row(void *arg, const struct store_evidence *row)
{
        struct seen *seen = arg;
        struct digest id;
        assert_true(seen->rows < SEEN_MAX);
        store_hash_evidence(row, &id);
        assert_true(digest_equal(&id, &row->id));
        snprintf(seen->texts[seen->rows], sizeof seen->texts[0], "%s|%s|%s|%.*s|%s|%lld", row->kind, row->where, row->repository, row->body_bytes > 20 ? 20 : (int)row->body_bytes,
                 (const char *)row->body, row->extra, (long long)row->found_s);
        seen->ids[seen->rows++] = row->id;
        seen->evidence = *row;
        if (seen->hook)
                seen->hook();
}

static void seen_proof(void *arg, const struct store_proof *row)
{
        struct seen *seen = arg;
        assert_true(seen->proofs < SEEN_MAX);
        seen->proven[seen->proofs++] = row->evidence;
        seen->last = *row;
}

static struct seen look(struct fixture *fixture, struct digest target)
{
        struct seen seen = { 0 };
        fixture->err = (struct error){ 0 };
        if (!store_load_evidence(fixture->store, &target, seen_row, seen_proof, &seen, &fixture->err))
                fail_msg("%s", fixture->err.text);
        return seen;
}

static struct store_evidence row_of(struct digest target, const char *body, int64_t found_s)
{
        return (struct store_evidence){
                .target = target, .kind = "bundle", .where = "referrer sha256:00", .repository = "r/a", .body = body, .body_bytes = strlen(body), .extra = "{}", .found_s = found_s,
        };
}

static struct store_proof proof_of(const struct store_evidence *row, const char *keys, const char *policy, int64_t proved_s)
{
        struct store_proof proof = { .target = row->target, .keys = name_digest(keys), .policy = name_digest(policy), .proved_s = proved_s };
        store_hash_evidence(row, &proof.evidence);
        return proof;
}

static bool try_save(struct fixture *fixture, struct store_evidence row, bool is_proven)
{
        struct store_proof proof = proof_of(&row, "key", "policy", row.found_s);
        fixture->err = (struct error){ 0 };
        return store_save_evidence(fixture->store, &row, 1, &proof, is_proven, &fixture->err);
}

static void save(struct fixture *fixture, struct store_evidence row, bool is_proven)
{
        if (!try_save(fixture, row, is_proven))
                fail_msg("%s", fixture->err.text);
}

/* An image of that module by that name. */
static struct digest image_put(struct fixture *fixture, const struct digest *module, const char *name, const char *top)
{
        const struct store_image image = { .manifest = name_digest(name), .top = name_digest(top), .module = *module, .layer = name_digest("layer"), .document = "{}" };
        if (!store_commit(fixture->store, &(struct store_commit){ .image = &image }, NULL, &fixture->err))
                fail_msg("%s", fixture->err.text);
        return image.manifest;
}

static struct digest ready(struct fixture *fixture)
{
        struct store_module module = content_put(fixture, 1, 1000);
        return image_put(fixture, &module.sha256, "manifest", "top");
}

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

static void test_damage(void **state)
{
        static const struct { const char *what, *change; size_t rows, proofs; } cases[] = {
                { "a flipped bit of the body", "UPDATE evidence SET body = CAST('ond' AS BLOB) WHERE found_s = 10", 1, 1 },
                { "a longer body", "UPDATE evidence SET body = CAST(body || x'00' AS BLOB) WHERE found_s = 10", 1, 1 },
                { "no body", "UPDATE evidence SET body = x'' WHERE found_s = 10", 1, 1 },
                { "a huge body", "UPDATE evidence SET body = zeroblob(9000000) WHERE found_s = 10", 1, 1 },
                { "another kind", "UPDATE evidence SET kind = 'simple' WHERE found_s = 10", 1, 1 },
                { "another place", "UPDATE evidence SET place = 'tag' WHERE found_s = 10", 1, 1 },
                { "another repository", "UPDATE evidence SET repository = 'r/b' WHERE found_s = 10", 1, 1 },
                { "another annotation", "UPDATE evidence SET extra = '[]' WHERE found_s = 10", 1, 1 },
                { "no id", "PRAGMA foreign_keys = OFF; UPDATE evidence SET id = x'' WHERE found_s = 10", 1, 1 },
                { "an odd id", "PRAGMA foreign_keys = OFF; UPDATE evidence SET id = x'0707' WHERE found_s = 10", 1, 1 },
                { "an odd module", "UPDATE evidence SET module = x'0707' WHERE found_s = 10", 1, 1 },
                { "exchanged bodies", "UPDATE evidence SET body = CASE found_s WHEN 10 THEN CAST('two' AS BLOB) ELSE CAST('one' AS BLOB) END WHERE found_s < 30", 0, 0 },
                { "exchanged ids", "PRAGMA foreign_keys = OFF; CREATE TEMP TABLE t AS SELECT id, found_s FROM evidence; UPDATE evidence SET id = CAST('x' || found_s AS BLOB);"
                  "UPDATE evidence SET id = (SELECT id FROM t WHERE t.found_s = 30 - evidence.found_s) WHERE found_s < 30", 0, 0 },
                { "evidence of another target", "UPDATE evidence SET target = (SELECT target FROM evidence WHERE found_s = 10) WHERE found_s = 30", 2, 2 },
                { "evidence moved away", "UPDATE evidence SET target = (SELECT target FROM evidence WHERE found_s = 30) WHERE found_s = 10", 1, 1 },
                { "a deleted row", "PRAGMA foreign_keys = ON; DELETE FROM evidence WHERE found_s = 10", 1, 1 },
                { "a deleted row, its proof left", "PRAGMA foreign_keys = OFF; DELETE FROM evidence WHERE found_s = 10", 1, 1 },
                { "all rows deleted", "PRAGMA foreign_keys = OFF; DELETE FROM evidence", 0, 0 },
                { "proofs deleted", "DELETE FROM proof", 2, 0 },
                { "time set", "UPDATE evidence SET found_s = 9223372036854775807 WHERE found_s = 10", 2, 2 },
                { "size set", "UPDATE evidence SET size_bytes = 9223372036854775807", 2, 2 },
        };
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture), top = name_digest("top");
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                struct store_evidence rows[] = { row_of(manifest, "one", 10), row_of(manifest, "two", 20), row_of(top, "three", 30) };
                struct store_proof proofs[] = { proof_of(&rows[0], "k1", "p", 1), proof_of(&rows[1], "k2", "p", 2) };
                print_message("%s\n", cases[i].what);
                sql(fixture, "DELETE FROM proof; DELETE FROM evidence;");
                assert_true(store_save_evidence(fixture->store, rows, COUNT_OF(rows), proofs, COUNT_OF(proofs), &fixture->err));
                sql(fixture, "%s;", cases[i].change);
                if (i % 2)
                        fixture_reopen(fixture);
                for (int again = 0; again < 2; again++) {
                        struct seen seen = look(fixture, manifest);
                        assert_int_equal(seen.rows, cases[i].rows);
                        assert_int_equal(seen.proofs, cases[i].proofs);
                }
                look(fixture, top);
                look(fixture, manifest);
                /* What was not what its id said is gone; what was sound has stayed. */
                sql(fixture, "SELECT count(*) FROM evidence;");
                struct seen left = look(fixture, manifest), other = look(fixture, top);
                assert_int_equal(sql_number(fixture, "SELECT count(*) FROM evidence;"), left.rows + other.rows);
                /* A save still works, whatever the damaged row said. */
                save(fixture, row_of(manifest, "four", 40), false);
        }
}

static char *log_of(struct fixture *fixture, struct digest target)
{
        static char text[4096];
        char *path = fixture_path(fixture, "../log");
        fflush(stderr);
        int saved = dup(2), fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_true(saved >= 0 && fd >= 0);
        dup2(fd, 2);
        look(fixture, target);
        dup2(saved, 2);
        close(saved);
        ssize_t length = pread(fd, text, sizeof text - 1, 0);
        assert_true(length >= 0);
        text[length] = '\0';
        close(fd);
        return text;
}

static void test_damage_log(void **state)
{
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture);
        save(fixture, row_of(manifest, "secret body", 1), false);
        save(fixture, row_of(manifest, "two", 2), false);
        assert_string_equal(log_of(fixture, manifest), "");
        sql(fixture, "UPDATE evidence SET kind = 'x';");
        const char *text = log_of(fixture, manifest);
        assert_non_null(strstr(text, "store_evidence_damaged"));
        assert_non_null(strstr(text, "rows=2"));
        assert_non_null(strstr(text, "deleted"));
        assert_null(strstr(text, "secret body"));
        assert_string_equal(log_of(fixture, manifest), "");
}

/* The index cannot be written just now: bad rows are not seen all the same. */
static void test_damage_unwritable(void **state)
{
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture);
        save(fixture, row_of(manifest, "one", 1), true);
        save(fixture, row_of(manifest, "two", 2), false);
        sql(fixture, "UPDATE evidence SET kind = 'x' WHERE found_s = 1;");
        fault_arm("store.commit", 1);
        struct seen seen = look(fixture, manifest);
        fault_arm("store.commit", 0);
        assert_int_equal(seen.rows, 1);
        assert_int_equal(seen.proofs, 0);
        assert_int_equal(sql_number(fixture, "SELECT count(*) FROM evidence;"), 2);
        assert_int_equal(look(fixture, manifest).rows, 1);
        assert_int_equal(sql_number(fixture, "SELECT count(*) FROM evidence;"), 1);
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

/* A blob that is lost takes its evidence along at the next start; so does one that is found to be bad. */
static void test_lost(void **state)
{
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture), module = content_digest(1, 1000);
        save(fixture, row_of(manifest, "one", 1), true);
        fixture_crash(fixture);
        assert_int_equal(unlink(blob_path(fixture, &module)), 0);
        fixture_open(fixture);
        assert_int_equal(fixture->report.dropped_rows, 1);
        assert_int_equal(look(fixture, manifest).rows, 0);
        assert_int_equal(sql_number(fixture, "SELECT count(*) FROM proof;"), 0);
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

static void test_failures(void **state)
{
        static const struct { const char *fault; enum error_code code; } rows[] = { { "store.begin", ERROR_STORE_FULL }, { "store.commit", ERROR_STORE_FULL } };
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture);
        save(fixture, row_of(manifest, "one", 1), true);
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                fault_arm(rows[i].fault, 1);
                assert_false(try_save(fixture, row_of(manifest, "two", 2), true));
                assert_int_equal(fixture->err.code, rows[i].code);
                fault_arm(rows[i].fault, 1);
                assert_false(store_remove_proofs(fixture->store, NULL, NULL, NULL, &fixture->err));
                fault_arm(rows[i].fault, 0);
                struct seen seen = look(fixture, manifest);
                assert_int_equal(seen.rows, 1);
                assert_int_equal(seen.proofs, 1);
        }
}

static void test_read_only(void **state)
{
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture);
        for (int i = 0; i < 2; i++) {
                save(fixture, row_of(manifest, "one", 1), true);
                save(fixture, row_of(manifest, "two", 2), false);
                if (i)
                        sql(fixture, "UPDATE evidence SET kind = 'x' WHERE found_s = 1;");
                store_close(&fixture->store);
                fault_arm("store.read_only", 1);
                fixture_open(fixture);
                assert_int_equal(store_get_health(fixture->store), STORE_READ_ONLY);
                for (int again = 0; again < 2; again++) {
                        struct seen seen = look(fixture, manifest);
                        assert_int_equal(seen.rows, 2 - i);
                        assert_int_equal(seen.proofs, 1 - i);
                }
                assert_false(try_save(fixture, row_of(manifest, "three", 3), true));
                assert_int_equal(fixture->err.code, ERROR_STORE_FULL);
                assert_non_null(strstr(fixture->err.text, "read-only"));
                assert_false(store_remove_proofs(fixture->store, NULL, NULL, NULL, &fixture->err));
                fault_arm("store.read_only", 0);
                fixture_reopen(fixture);
        }
}

/* A damaged index is made anew from the blobs, without evidence. */
static void test_rebuilt(void **state)
{
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture), module = content_digest(1, 1000);
        save(fixture, row_of(manifest, "one", 1), true);
        store_close(&fixture->store);
        file_write(fixture_path(fixture, "index.sqlite"), "no database at all, and long enough to be looked at as if it were one", 69);
        fixture_open(fixture);
        assert_true(fixture->report.index_rebuilt);
        assert_int_equal(look(fixture, manifest).rows, 0);
        save(fixture, row_of(module, "one", 1), true);
        assert_int_equal(look(fixture, module).proofs, 1);
}

/* Schema 2 as it was released, to the letter: never to be changed. */
static const char schema_2[] =
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;"
        "CREATE TABLE module (sha256 BLOB PRIMARY KEY, device INTEGER NOT NULL, inode INTEGER NOT NULL, size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,"
        " ctime_ns INTEGER NOT NULL, created_s INTEGER NOT NULL, last_used_s INTEGER NOT NULL, pinned INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
        "CREATE TABLE image (manifest BLOB NOT NULL, top BLOB NOT NULL, module BLOB NOT NULL REFERENCES module ON DELETE CASCADE, layer BLOB NOT NULL, media_type TEXT NOT NULL,"
        " layer_type TEXT NOT NULL, PRIMARY KEY (manifest, top)) STRICT, WITHOUT ROWID;"
        "CREATE TABLE document (manifest BLOB NOT NULL, top BLOB NOT NULL, text TEXT NOT NULL, PRIMARY KEY (manifest, top),"
        " FOREIGN KEY (manifest, top) REFERENCES image ON DELETE CASCADE) STRICT, WITHOUT ROWID;"
        "CREATE TABLE reference (name TEXT PRIMARY KEY, top BLOB NOT NULL, manifest BLOB NOT NULL, module BLOB NOT NULL REFERENCES module ON DELETE CASCADE, etag TEXT NOT NULL,"
        " checked_s INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
        "CREATE TABLE \"grant\" (manifest BLOB NOT NULL, repository TEXT NOT NULL, kind TEXT NOT NULL, namespace TEXT NOT NULL, secret TEXT NOT NULL, credential_mac BLOB NOT NULL,"
        " granted_s INTEGER NOT NULL, last_ok_s INTEGER NOT NULL, PRIMARY KEY (manifest, repository, kind, namespace, secret, credential_mac)) STRICT, WITHOUT ROWID;"
        "CREATE TABLE resource (namespace TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, reference TEXT NOT NULL,"
        " module BLOB NOT NULL REFERENCES module ON DELETE CASCADE, manifest BLOB NOT NULL, PRIMARY KEY (namespace, name)) STRICT, WITHOUT ROWID;"
        "CREATE TABLE lease (id TEXT PRIMARY KEY, namespace TEXT NOT NULL, module BLOB NOT NULL REFERENCES module ON DELETE CASCADE, expires_s INTEGER NOT NULL,"
        " holder TEXT NOT NULL) STRICT, WITHOUT ROWID;"
        "CREATE INDEX image_module ON image (module);"
        "CREATE INDEX reference_module ON reference (module);"
        "CREATE INDEX resource_module ON resource (module);"
        "CREATE INDEX lease_module ON lease (module);"
        "PRAGMA user_version = 2; PRAGMA application_id = 0x5741534d; PRAGMA journal_mode = WAL;";

static void test_upgrade(void **state)
{
        static const char *const tables[] = { "meta", "module", "image", "document", "reference", "\"grant\"", "resource", "lease" };
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture), module = content_digest(1, 1000);
        const struct store_reference reference = { .name = "oci://r/a:1", .top = name_digest("top"), .manifest = manifest, .module = module, .checked_s = 5 };
        const struct store_grant grant = { manifest, "r/a", "anonymous", "", "", { 0 }, 1, 1 };
        assert_true(store_commit(fixture->store, &(struct store_commit){ .reference = &reference, .grant = &grant }, NULL, &fixture->err));
        lease_put(fixture, "l", "team-a", &module, clock_get_wall_s() + 1000);
        struct census before = census_take(fixture);
        store_close(&fixture->store);

        /* An index made by the old text, with the same rows. */
        char command[1500], schema_now[64];
        snprintf(command, sizeof command, "cd '%s' && mv index.sqlite new.sqlite && rm -f index.sqlite-wal index.sqlite-shm", fixture->root);
        assert_int_equal(system(command), 0);
        sql(fixture, "%s", schema_2);
        for (size_t i = 0; i < COUNT_OF(tables); i++)
                sql(fixture, "ATTACH '%s/new.sqlite' AS new; INSERT INTO main.%s SELECT %s FROM new.%s;", fixture->root, tables[i],
                    strcmp(tables[i], "image") == 0 ? "manifest, top, module, layer, media_type, layer_type" : "*", tables[i]);
        assert_int_equal(sql_number(fixture, "PRAGMA user_version;"), 2);

        /* A migration that fails leaves it as it is. */
        fault_arm("store.migration", 1);
        assert_false(fixture_try(fixture));
        fault_arm("store.migration", 0);
        assert_int_equal(sql_number(fixture, "PRAGMA user_version;"), 2);
        assert_int_equal(sql_number(fixture, "SELECT count(*) FROM sqlite_schema WHERE name = 'evidence';"), 0);

        fixture_open(fixture);
        struct census after = census_take(fixture);
        assert_int_equal(after.modules, 1);
        assert_int_equal(after.images, before.images);
        assert_int_equal(after.references, 1);
        assert_int_equal(after.grants, 1);
        assert_int_equal(after.leases, 1);
        assert_string_equal(after.last_reference, before.last_reference);
        assert_string_equal(after.last_image, before.last_image);
        assert_int_equal(fixture->report.index_rebuilt, false);
        assert_int_equal(sql_number(fixture, "PRAGMA user_version;"), 4);
        save(fixture, row_of(manifest, "one", 1), true);
        fixture_reopen(fixture);
        assert_int_equal(look(fixture, manifest).proofs, 1);

        /* Upgraded and new are the same schema, and the copy of before is there. */
        snprintf(schema_now, sizeof schema_now, "%.60s", "SELECT sql FROM sqlite_schema ORDER BY name");
        snprintf(command, sizeof command, "cd '%s' && sqlite3 index.sqlite '%s' > a && sqlite3 new.sqlite '%s' > b && cmp a b && test -s a && rm a b new.sqlite*"
                 " && test $(sqlite3 index.sqlite.schema-2 'PRAGMA user_version') = 2 && test $(sqlite3 index.sqlite.schema-2 'SELECT count(*) FROM image') = 1",
                 fixture->root, schema_now, schema_now);
        assert_int_equal(system(command), 0);

        /* What is newer is refused by number. */
        store_close(&fixture->store);
        sql(fixture, "PRAGMA user_version = 5;");
        assert_false(fixture_try(fixture));
        assert_non_null(strstr(fixture->err.text, "schema 5"));
        assert_non_null(strstr(fixture->err.text, "up to 4"));
        sql(fixture, "PRAGMA user_version = 4;");
        fixture_open(fixture);
        assert_int_equal(look(fixture, manifest).proofs, 1);
}

/* ---- many at once */
struct worker { pthread_t thread; struct fixture *fixture; struct digest target; int number; size_t seen; };

static void count_row(void *arg, const struct store_evidence *row)
{
        struct worker *worker = arg;
        worker->seen += row->body_bytes > 0;
}

static void *worker_run(void *arg)
{
        struct worker *worker = arg;
        struct error err = { 0 };
        char body[32];
        for (int i = 0; i < 25; i++) {
                snprintf(body, sizeof body, "worker %d row %d", worker->number, i);
                struct store_evidence row = row_of(worker->target, body, i);
                struct store_proof proof = proof_of(&row, body, "p", i);
                bool is_good = store_save_evidence(worker->fixture->store, &row, 1, &proof, 1, &err) &&
                               store_load_evidence(worker->fixture->store, &worker->target, count_row, NULL, worker, &err) &&
                               store_remove_proofs(worker->fixture->store, &worker->target, &proof.keys, NULL, &err);
                if (!is_good)
                        return NULL;
        }
        return worker;
}

static void test_threads(void **state)
{
        struct fixture *fixture = *state;
        struct digest manifest = ready(fixture);
        struct worker workers[4];
        for (int i = 0; i < 4; i++) {
                workers[i] = (struct worker){ .fixture = fixture, .target = manifest, .number = i };
                assert_int_equal(pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]), 0);
        }
        for (int i = 0; i < 4; i++) {
                void *result = NULL;
                pthread_join(workers[i].thread, &result);
                assert_non_null(result);
                assert_true(workers[i].seen >= 25);
        }
        struct seen seen = look(fixture, manifest);
        assert_int_equal(seen.rows, STORE_EVIDENCE_PER_TARGET_MAX);
        assert_int_equal(seen.proofs, 0);
}

int main(void)
{
#define ROW(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                ROW(test_save_load), cmocka_unit_test(test_id), ROW(test_renew), ROW(test_proof_alone), ROW(test_damage), ROW(test_damage_log), ROW(test_damage_unwritable),
                ROW(test_limits), ROW(test_limit_bytes), ROW(test_limit_proofs), ROW(test_owner), ROW(test_removal), ROW(test_lost), ROW(test_remove_proofs), ROW(test_targets),
                ROW(test_failures), ROW(test_read_only), ROW(test_rebuilt), ROW(test_upgrade), ROW(test_threads),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
