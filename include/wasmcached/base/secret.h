/* secret: bytes that are wiped when freed and cannot be logged by accident (no field or function turns them into a log field). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <wasmcached/base/digest.h>

struct secret;
/* Copies `bytes`; the caller wipes its own. A NUL is kept behind the end. NULL bytes with size 0 = empty secret. */
struct secret *secret_new(const void *bytes, size_t size_bytes) __attribute__((returns_nonnull));
struct secret *secret_copy(const struct secret *secret);           /* NULL of NULL */
const char *secret_get_text(const struct secret *secret);          /* "" of NULL; valid until freed */
size_t secret_get_size(const struct secret *secret);
bool secret_equal(const struct secret *a, const struct secret *b); /* constant time for equal sizes; NULL equals only NULL */
void secret_free(struct secret **secret);

/* One way to log in at a registry, as a docker config entry says it ([oci] 3.1). All NULL = anonymous. */
struct login {
        char *username;
        struct secret *password;           /* with username: Basic */
        struct secret *identity_token;     /* OAuth2 refresh token ("identitytoken") */
        struct secret *registry_token;     /* sent as Bearer as it is ("registrytoken") */
};
void login_fini(struct login *login);
bool login_copy(const struct login *from, struct login *ret_login);         /* always true */
bool login_equal(const struct login *a, const struct login *b);
bool login_is_anonymous(const struct login *login);                /* NULL counts as anonymous */
/* Keyed hash of the whole login (length-prefixed fields): the name of a principal in grants, flights and the token cache. */
void login_fingerprint(const struct login *login, const void *key, size_t key_bytes, struct digest *ret_fingerprint);
