/* Evidence that is damaged, exchanged, lost, from an older schema or read by many at once. */
#include "store_evidence_rig.h"

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
        const struct CMUnitTest tests[] = {
                ROW(test_damage), ROW(test_damage_log), ROW(test_damage_unwritable), ROW(test_lost), ROW(test_failures), ROW(test_read_only), ROW(test_rebuilt), ROW(test_upgrade),
                ROW(test_threads),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
