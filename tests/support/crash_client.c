/*
 * A program that crashes under Crashpad, as CrashpadClient::StartHandlerAtCrash() has it: from its signal handler it runs
 * a single-use handler, which reads this process's memory and uploads a minidump of it.
 *
 * crash_client HANDLER [OPTION...]; ends with the handler's exit status. It has two bugs; the second one shows itself
 * if OTHER_BUG is in its environment.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* crashpad::ExceptionInformation */
static struct __attribute__((packed)) {
    uint64_t siginfo_address;
    uint64_t context_address;
    int32_t thread_id;
    uint32_t padding;
} exception;

static char **handler;

static void on_crash(int number, siginfo_t *siginfo, void *context)
{
    (void)number;
    exception.siginfo_address = (uintptr_t)siginfo;
    exception.context_address = (uintptr_t)context;
    exception.thread_id = (int32_t)syscall(SYS_gettid);
    prctl(PR_SET_PTRACER, getpid(), 0, 0, 0);
    pid_t child = fork();
    if (child == 0) {
        execv(handler[0], handler);
        _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 126);
}

static int store(volatile int *where)
{
    *where = 1;
    return 125;
}

static int divide_in(volatile int *where)
{
    return 7 / *where;
}

int main(int argc, char **argv)
{
    static char address[64];
    snprintf(address, sizeof address, "--trace-parent-with-exception=%p", (void *)&exception);
    handler = calloc((size_t)argc + 1, sizeof *handler);
    memcpy(handler, argv + 1, (size_t)(argc - 1) * sizeof *handler);
    handler[argc - 1] = address;

    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    return getenv("OTHER_BUG") ? divide_in(NULL) : store(NULL);
}
