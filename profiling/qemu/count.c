/* QEMU plugin: the exact number of guest instructions a user-mode program executed.
 *
 * Loaded by `qemu-aarch64 -plugin libcount.so -d plugin -D LOG PROGRAM`; at exit it writes one line,
 * "instructions: N", to the plugin log. Every translation block adds its length when it is entered,
 * inline in the generated code, so counting costs little.
 *
 * No distribution ships QEMU's plugin header; the declarations below restate the part of plugin
 * API version 1 (that of QEMU 7.2; QEMU 10 wants at least 2) that is used here. The inline counter
 * is not atomic, so the count holds for programs with one thread, which the runner is.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_info_t;
enum inline_operation { INLINE_ADD_U64 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
void qemu_plugin_register_vcpu_tb_trans_cb(
    plugin_id id, void (*translated)(plugin_id id, struct qemu_plugin_tb *block));
void qemu_plugin_register_vcpu_tb_exec_inline(
    struct qemu_plugin_tb *block, enum inline_operation operation, void *counter, uint64_t amount);
void qemu_plugin_register_atexit_cb(plugin_id id, void (*ended)(plugin_id id, void *user),
                                    void *user);
void qemu_plugin_outs(const char *text);

EXPORT int qemu_plugin_version = 1;

static uint64_t executed;

static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
    qemu_plugin_register_vcpu_tb_exec_inline(block, INLINE_ADD_U64, &executed,
                                             qemu_plugin_tb_n_insns(block));
}

static void ended(plugin_id id, void *user)
{
    char line[64];
    snprintf(line, sizeof line, "instructions: %" PRIu64 "\n", executed);
    qemu_plugin_outs(line);
}

EXPORT int qemu_plugin_install(plugin_id id, const struct qemu_info_t *info, int argc, char **argv)
{
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
