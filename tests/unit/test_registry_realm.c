/* To whom a login may be taken, and for what it asks there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "../../agent/registry/room.h"

#define R "https://r.example"
#define HUB "https://registry-1.docker.io"

/* endpoint, what token_realms adds ("registry realm"), realm → may the login go there? If not, nobody's request may, to a public address; `never`: not even that. */
static const struct { const char *endpoint, *pair, *realm; bool is_trusted, never; } realms[] = {
        { R, NULL, R "/token", true, false },                                        { R ":5000", NULL, R ":8443/token", true, false },
        { "https://R.Example", NULL, "HTTPS://r.EXAMPLE/token", true, false },      { R, NULL, "https://evil.example/token", false, false },
        { R, NULL, R ".evil.example/token", false, false },                          { R, NULL, "https://r.exampl/token", false, false },
        { R, NULL, "https://example/token", false, false },                          { R, NULL, "https://xr.example/token", false, false },
        { R, NULL, "http://r.example/token", false, true },                          { "http://r.example", NULL, "http://r.example/token", true, false },
        { "http://r.example", NULL, R "/token", true, false },                       { R, NULL, R "@evil.example/token", false, true },
        { R, NULL, "ftp://r.example/token", false, true },                           { R, NULL, "token", false, true },
        { R, "r.example t.example", "https://t.example/token", true, false },        { R, "r.example t.example", "https://T.example:8443/token", true, false },
        { R, "R.example  T.example", "https://t.example/token", true, false },       { R, "r.example t.example", "https://t.example.evil.example/token", false, false },
        { R, "r.example t.example", "https://xt.example/token", false, false },      { R, "r.example t.exa", "https://t.example/token", false, false },
        { R, "r.example t.example.x", "https://t.example/token", false, false },     { R, "r.exa t.example", "https://t.example/token", false, false },
        { R, "r.example.x t.example", "https://t.example/token", false, false },     { R, "s.example t.example", "https://t.example/token", false, false },
        { R, "t.example r.example", "https://t.example/token", false, false },       { R, "r.example t.example", "http://t.example/token", false, true },
        { R ":5000", "r.example:5000 t.example:8443", "https://t.example:8443/token", true, false },
        { R ":5000", "r.example:5000 t.example:8443", "https://t.example:8444/token", false, false },
        { R ":5000", "r.example:5000 t.example:8443", "https://t.example/token", false, false },
        { R ":5000", "r.example:5000 t.example:84", "https://t.example:8443/token", false, false },
        { R ":5000", "r.example:5000 u.example:8443", "https://t.example:8443/token", false, false },
        { R ":5000", "r.example:50 t.example", "https://t.example/token", false, false },
        { R ":5001", "r.example:5000 t.example", "https://t.example/token", false, false },
        { HUB, NULL, "https://auth.docker.io/token", true, false },                  { HUB, "docker.io t.example", "https://t.example/token", true, false },
        { HUB, "docker t.example", "https://t.example/token", false, false },        { HUB, "docker_io t.example", "https://t.example/token", false, false },
        { R, "docker.io t.example", "https://t.example/token", false, false },       { R, NULL, "https://auth.docker.io/token", false, false },
};

static void test_realms(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(realms); i++) {
                char *pairs[] = { (char *)(uintptr_t)realms[i].pair, NULL };
                struct registry registry = { .realm_pairs = pairs };
                struct login user = { .username = (char *)(uintptr_t)"u", .password = secret_new("p", 1) }, nobody = { 0 };
                for (int is_user = 0; is_user < 2; is_user++) {
                        struct registry_call call = { .registry = &registry, .endpoint = realms[i].endpoint, .login = is_user ? &user : &nobody };
                        bool public_only = false, is_good = !realms[i].never && (realms[i].is_trusted || !is_user);
                        struct error err = { 0 };
                        if (realm_check(&call, realms[i].realm, &public_only, &err) != is_good)
                                fail_msg("row %zu (%s, %s, %s) as %s: %s", i, realms[i].endpoint, realms[i].pair ? realms[i].pair : "-", realms[i].realm,
                                         is_user ? "user" : "nobody", is_good ? err.text : "allowed");
                        assert_int_equal(is_good ? ERROR_NONE : ERROR_UNAUTHORIZED, err.code);
                        if (is_good)
                                assert_int_equal(public_only, !realms[i].is_trusted);
                }
                secret_free(&user.password);
        }
}

#define OWN "repository:a/b:pull"

/* Never more than pull, and nothing that could end the parameter that it is put into. */
static const struct { const char *asked, *scopes; } scopes[] = {
        { NULL, OWN }, { "", OWN }, { "  ", OWN }, { OWN, OWN }, { "repository:c:pull", "repository:c:pull " OWN }, { OWN " repository:c:pull", "repository:c:pull " OWN },
        { "repository:h:5000/c:pull", "repository:h:5000/c:pull " OWN }, { "repository(plugin):c:pull", "repository(plugin):c:pull " OWN },
        { "repository:c:pull,push", OWN }, { "repository:c:push", OWN }, { "repository:c:*", OWN }, { "repository:c:delete", OWN }, { "repository:c:xpull", OWN }, { "repository:c", OWN },
        { "registry:catalog:*", OWN }, { "registry:c:pull", OWN }, { "xepository:c:pull", OWN }, { "repositoryx:c:pull", OWN }, { "registry::pull", OWN }, { "repository::pull", OWN },
        { "aws", "aws " OWN }, { "push", OWN }, { "canDelete", OWN }, { "CATALOG", OWN }, { "all*", OWN },
        { "repository:c\"d:pull", OWN }, { "repository:c\\d:pull", OWN }, { "repository:c\x7f:pull", OWN }, { "repository:c\xc3\xa4:pull", OWN }, { "a\tb", OWN },
        { "a b c d e f", "a b c d " OWN },
};

static void test_scopes(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(scopes); i++) {
                CLEANUP(cleanup_free) char *made = scopes_format("a/b", scopes[i].asked);
                assert_string_equal(made, scopes[i].scopes);
        }
        for (size_t length = 512; length <= 513; length++) {
                char scope[600];
                memset(scope, 'x', sizeof scope);
                scope[length] = '\0';
                CLEANUP(cleanup_free) char *made = scopes_format("a/b", scope);
                assert_int_equal(strlen(made), strlen(OWN) + (length == 512 ? 513 : 0));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_realms), cmocka_unit_test(test_scopes) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
