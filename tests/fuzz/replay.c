/*
 * How it goes: every file of the folder given is fed once to the fuzz target that this is linked with, so that the corpus is a regression test of plain builds.
 * How it fails: a crash, or a folder without files: a corpus that is gone is a test that cannot fail.
 * How it ends: the number of files on stdout.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
#include <wasmcached/base.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
        DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
        unsigned count = 0;

        if (!folder) {
                fprintf(stderr, "usage: %s CORPUS-FOLDER\n", argv[0]);
                return 2;
        }
        for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
                struct buffer content = { 0 };
                struct error err = { 0 };

                if (entry->d_name[0] == '.')
                        continue;
                if (!fs_load(dirfd(folder), entry->d_name, 16u << 20, &content, &err)) {
                        fprintf(stderr, "%s\n", err.text);
                        return 1;
                }
                LLVMFuzzerTestOneInput((const uint8_t *)content.data, content.used);
                buffer_fini(&content);
                count++;
        }
        closedir(folder);
        printf("%u corpus files\n", count);
        return count == 0;
}
