/* For tests of evidence: an attacker with a sqlite3 shell, and what is seen of the rows. */
#pragma once
#include "test_store_tools.h"

#define RIG __attribute__((unused)) static

/* ---- an operator, or an attacker, with a sqlite3 shell */
RIG void sql(const struct fixture *fixture, const char *format, ...) __attribute__((format(printf, 2, 3)));
RIG void sql(const struct fixture *fixture, const char *format, ...)
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

RIG long sql_number(const struct fixture *fixture, const char *query)
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

RIG void seen_row(void *arg, const struct store_evidence *row)
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

RIG void seen_proof(void *arg, const struct store_proof *row)
{
        struct seen *seen = arg;
        assert_true(seen->proofs < SEEN_MAX);
        seen->proven[seen->proofs++] = row->evidence;
        seen->last = *row;
}

RIG struct seen look(struct fixture *fixture, struct digest target)
{
        struct seen seen = { 0 };
        fixture->err = (struct error){ 0 };
        if (!store_load_evidence(fixture->store, &target, seen_row, seen_proof, &seen, &fixture->err))
                fail_msg("%s", fixture->err.text);
        return seen;
}

RIG struct store_evidence row_of(struct digest target, const char *body, int64_t found_s)
{
        return (struct store_evidence){
                .target = target, .kind = "bundle", .where = "referrer sha256:00", .repository = "r/a", .body = body, .body_bytes = strlen(body), .extra = "{}", .found_s = found_s,
        };
}

RIG struct store_proof proof_of(const struct store_evidence *row, const char *keys, const char *policy, int64_t proved_s)
{
        struct store_proof proof = { .target = row->target, .keys = name_digest(keys), .policy = name_digest(policy), .proved_s = proved_s };
        store_hash_evidence(row, &proof.evidence);
        return proof;
}

RIG bool try_save(struct fixture *fixture, struct store_evidence row, bool is_proven)
{
        struct store_proof proof = proof_of(&row, "key", "policy", row.found_s);
        fixture->err = (struct error){ 0 };
        return store_save_evidence(fixture->store, &row, 1, &proof, is_proven, &fixture->err);
}

RIG void save(struct fixture *fixture, struct store_evidence row, bool is_proven)
{
        if (!try_save(fixture, row, is_proven))
                fail_msg("%s", fixture->err.text);
}

/* An image of that module by that name. */
RIG struct digest image_put(struct fixture *fixture, const struct digest *module, const char *name, const char *top)
{
        const struct store_image image = { .manifest = name_digest(name), .top = name_digest(top), .module = *module, .layer = name_digest("layer"), .document = "{}" };
        if (!store_commit(fixture->store, &(struct store_commit){ .image = &image }, NULL, &fixture->err))
                fail_msg("%s", fixture->err.text);
        return image.manifest;
}

RIG struct digest ready(struct fixture *fixture)
{
        struct store_module module = content_put(fixture, 1, 1000);
        return image_put(fixture, &module.sha256, "manifest", "top");
}

#define ROW(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
