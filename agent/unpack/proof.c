/*
 * How it goes: each piece that passes is hashed, large ones by a second thread while the stream below makes the next one: a hash takes half as long as inflating, and would
 *              be added to it. At the end, which the tar above asks for whatever lies behind its last entry, the digest is compared.
 * How it fails: another digest than expected, as ERROR_CHECKSUM_MISMATCH: two decompressors that disagree, or a config of another image. Without a thread it hashes in place.
 * How it ends: the thread is joined at the end or with the stream, the hasher goes with the stream.
 */
#include <pthread.h>
#include <stdlib.h>
#include "stream.h"

enum { PIECE_OF_ITS_OWN_BYTES = 64 << 10 };

struct proof_stream {
        struct stream stream;
        struct hasher *hasher;            /* the thread's while `size_bytes` is not 0 */
        const struct digest *expected;
        bool is_proved, has_thread, is_ending;
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        const uint8_t *bytes;
        size_t size_bytes;                /* 0 = the thread has nothing to do */
};

static void *proof_run(void *arg)
{
        struct proof_stream *proof = arg;
        pthread_mutex_lock(&proof->lock);
        for (;;) {
                while (proof->size_bytes == 0 && !proof->is_ending)
                        pthread_cond_wait(&proof->changed, &proof->lock);
                if (proof->size_bytes == 0)
                        break;
                pthread_mutex_unlock(&proof->lock);
                hasher_update(proof->hasher, proof->bytes, proof->size_bytes);
                pthread_mutex_lock(&proof->lock);
                proof->size_bytes = 0;
                pthread_cond_broadcast(&proof->changed);
        }
        pthread_mutex_unlock(&proof->lock);
        return NULL;
}

static void helper_start(struct proof_stream *proof)
{
        proof->has_thread = !fault_hit("unpack.thread") && thread_start(proof_run, proof, &proof->thread);
}

/* Waits until the piece before is hashed. */
static void helper_await(struct proof_stream *proof)
{
        if (!proof->has_thread)
                return;
        pthread_mutex_lock(&proof->lock);
        while (proof->size_bytes > 0)
                pthread_cond_wait(&proof->changed, &proof->lock);
        pthread_mutex_unlock(&proof->lock);
}

static void helper_join(struct proof_stream *proof)
{
        if (!proof->has_thread)
                return;
        pthread_mutex_lock(&proof->lock);
        proof->is_ending = true;
        pthread_cond_broadcast(&proof->changed);
        pthread_mutex_unlock(&proof->lock);
        thread_join(proof->thread);
        proof->has_thread = false;
}

static void piece_hash(struct proof_stream *proof, const uint8_t *bytes, size_t size_bytes)
{
        helper_await(proof);
        if (!proof->has_thread && size_bytes >= PIECE_OF_ITS_OWN_BYTES)
                helper_start(proof);
        if (!proof->has_thread || size_bytes < PIECE_OF_ITS_OWN_BYTES) {
                hasher_update(proof->hasher, bytes, size_bytes);
                return;
        }
        pthread_mutex_lock(&proof->lock);
        proof->bytes = bytes;
        proof->size_bytes = size_bytes;
        pthread_cond_broadcast(&proof->changed);
        pthread_mutex_unlock(&proof->lock);
}

static bool proof_check(struct proof_stream *proof, struct error *err)
{
        struct digest found;
        char is[DIGEST_TEXT_BYTES], expected[DIGEST_TEXT_BYTES];
        helper_join(proof);
        hasher_finish(proof->hasher, &found);
        proof->is_proved = digest_equal(&found, proof->expected);
        if (proof->is_proved)
                return true;
        digest_format(&found, is);
        digest_format(proof->expected, expected);
        return refuse(err, ERROR_CHECKSUM_MISMATCH, "the archive in the layer is %s, the image's config says %s (rootfs.diff_ids)", is, expected);
}

static bool proof_fill(struct stream *stream, const uint8_t **ret_bytes, size_t *ret_size, struct error *err)
{
        struct proof_stream *proof = CONTAINER_OF(stream, struct proof_stream, stream);
        *ret_size = 0;
        if (proof->is_proved)
                return true;
        if (!stream_next(stream->below, ret_bytes, ret_size, err))
                return false;
        if (*ret_size == 0)
                return proof_check(proof, err);
        piece_hash(proof, *ret_bytes, *ret_size);
        return true;
}

static void proof_release(struct stream *stream)
{
        struct proof_stream *proof = CONTAINER_OF(stream, struct proof_stream, stream);
        helper_join(proof);
        pthread_cond_destroy(&proof->changed);
        pthread_mutex_destroy(&proof->lock);
        hasher_free(&proof->hasher);
        free(proof);
}

struct stream *proof_stream_new(struct stream *below, const struct digest *expected)
{
        struct proof_stream *proof = memory_new(1, sizeof *proof);
        proof->stream = (struct stream){ .run = below->run, .below = below, .fill = proof_fill, .release = proof_release };
        proof->hasher = hasher_new(expected->algorithm);
        proof->expected = expected;
        pthread_mutex_init(&proof->lock, NULL);
        pthread_cond_init(&proof->changed, NULL);
        return &proof->stream;
}
