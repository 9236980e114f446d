/*
 * How it goes: the key files that `trust:` names are read and checked; what comes out is what the room module demands of signatures. Nothing of them is kept beyond the call.
 * How it fails: a file that is missing, unreadable or no key is refused with its option and path: a rule whose keys are unknown must not be left out.
 * How it ends: config_trust_fini() gives the references back; the room module has its own.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/module.h>
#include <wasmcached/trust.h>
#include "config.h"

enum { FILES_MAX = TRUST_KEYS_MAX };

static bool load_keys(const char *path, const char *option, struct trust_keys **ret_keys, struct error *err)
{
        CLEANUP(buffer_fini_secret) struct buffer text = { 0 };        /* it may be a private key by mistake */
        CLEANUP(cleanup_free) char *what = string_format("%s: %s", option, path);
        if (!fs_load(AT_FDCWD, path, TRUST_KEY_TEXT_MAX, &text, err)) {
                if (err->code != ERROR_NOT_FOUND)
                        err->code = ERROR_BAD_REQUEST;
                return refuse_within(err, "%s", option);
        }
        CLEANUP(trust_keys_unref) struct trust_keys *keys = NULL;
        if (trust_keys_parse(text.data ? text.data : "", text.used, what, &keys, err) && trust_keys_check(keys, what, err)) {
                *ret_keys = TAKE(keys);
                return true;
        }
        err->code = ERROR_BAD_REQUEST;
        return false;
}

static bool load_key_files(const char *const *paths, const char *option, struct trust_keys **ret_keys, struct error *err)
{
        struct trust_keys *sets[FILES_MAX] = { 0 };
        size_t count = 0;
        bool done = true;
        for (; done && *paths; paths++) {
                if (count == FILES_MAX)
                        done = refuse(err, ERROR_BAD_REQUEST, "%s: at most %d files with %d keys in all", option, FILES_MAX, TRUST_KEYS_MAX);
                else
                        done = load_keys(*paths, option, &sets[count], err) && ++count;
        }
        if (done && count == 0)
                done = refuse(err, ERROR_BAD_REQUEST, "%s: needs at least one file with a public key", option);
        if (done && !trust_keys_join(sets, count, option, ret_keys, err)) {
                err->code = ERROR_BAD_REQUEST;
                done = false;
        }
        for (size_t i = 0; i < count; i++)
                trust_keys_unref(&sets[i]);
        return done;
}

static unsigned format_bits(const char *const *names)
{
        unsigned bits = 0;
        for (; *names; names++)
                for (unsigned i = 0; i < TRUST_FORMATS; i++)
                        if (strcmp(trust_format_names[i], *names) == 0)
                                bits |= 1u << i;
        return bits;
}

/* "name=value", as the option keeps maps: a name has no '='. */
static size_t annotations_split(const char *const *texts, struct trust_annotation **ret_annotations, char ***ret_owned)
{
        size_t count = 0;
        while (texts && texts[count])
                count++;
        *ret_annotations = memory_new(count + 1, sizeof **ret_annotations);
        *ret_owned = memory_new(count + 1, sizeof **ret_owned);
        for (size_t i = 0; i < count; i++) {
                char *text = (*ret_owned)[i] = string_copy(texts[i]), *at = strchr(text, '=');
                if (at)
                        *at = '\0';
                (*ret_annotations)[i] = (struct trust_annotation){ text, at ? at + 1 : "" };
        }
        return count;
}

static bool load_rule(const struct config_require *require, size_t index, const struct trust_policy_options *base, struct trust_rule *rule, struct error *err)
{
        CLEANUP(cleanup_free) char *option = string_format("trust.require[%zu].keys", index);
        if (!load_key_files(require->keys, option, &rule->keys, err))
                return false;
        struct trust_policy_options options = *base;
        struct trust_annotation *annotations;
        char **owned;
        options.annotation_count = annotations_split(require->annotations, &annotations, &owned);
        options.annotations = annotations;
        options.identity = (enum trust_identity)require->identity;
        rule->match = require->match;
        rule->policy = trust_policy_new(&options);
        for (size_t i = 0; i < options.annotation_count; i++)
                free(owned[i]);
        free(owned);
        free(annotations);
        return true;
}

void config_trust_fini(struct modules_trust *trust)
{
        struct trust_rule *rules = (struct trust_rule *)(uintptr_t)trust->rules;
        for (size_t i = 0; i < trust->rule_count; i++) {
                trust_keys_unref(&rules[i].keys);
                trust_policy_unref(&rules[i].policy);
        }
        free(rules);
        trust_policy_unref(&trust->policy);
        *trust = (struct modules_trust){ 0 };
}

bool config_load_trust(const struct config *config, struct modules_trust *ret_trust, struct error *err)
{
        CLEANUP(config_trust_fini) struct modules_trust trust = { .signature_repository = config->trust.signature_repository };
        CLEANUP(trust_keys_unref) struct trust_keys *rekor_keys = NULL;
        if (*config->trust.rekor_keys && !load_key_files(config->trust.rekor_keys, "trust.rekor_keys", &rekor_keys, err))
                return false;
        struct trust_policy_options options = {
                .formats = format_bits(config->trust.formats), .predicates = config->trust.predicates, .requires_top_level = config->trust.require_top_level_signature,
                .rekor_keys = rekor_keys,
        };
        trust.policy = trust_policy_new(&options);
        struct trust_rule *rules = memory_new(config->trust.require_count + 1, sizeof *rules);
        trust.rules = rules;
        for (; trust.rule_count < config->trust.require_count; trust.rule_count++)
                if (!load_rule(&config->trust.require[trust.rule_count], trust.rule_count, &options, &rules[trust.rule_count], err)) {
                        trust_keys_unref(&rules[trust.rule_count].keys);
                        return false;
                }
        *ret_trust = trust;
        trust = (struct modules_trust){ 0 };
        return true;
}
