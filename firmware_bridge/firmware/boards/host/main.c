/* The firmware as a process of this computer, its line a pty.
 *
 *     edgelink-host [--clock-us N]
 *
 * Prints {"port": "/dev/pts/N"} first and one JSON line with its counts last. It ends when its standard input closes or
 * on SIGTERM. --clock-us: what its clock shows at the start, to see it wrap.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "board.h"
#include "config.h"
#include "plant.h"
#include "run.h"

#define WAIT_MS 1 /* of a read for its first byte */

static int line_fd = -1;
static int slave_fd = -1;
static uint32_t clock_start_us;
static struct timespec epoch;
static volatile sig_atomic_t ended;
static fw_loop loop;

static void end(int number) {
    (void)number;
    ended = 1;
}

uint32_t board_now_us(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    const int64_t us = ((int64_t)(now.tv_sec - epoch.tv_sec) * 1000000) + ((now.tv_nsec - epoch.tv_nsec) / 1000);
    return clock_start_us + (uint32_t)((uint64_t)us & 0xFFFFFFFFu);
}

size_t board_uart_read(uint8_t *data, size_t room) {
    struct pollfd ready[2] = {{.fd = line_fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    ssize_t count = 0;
    if (poll(ready, 2u, WAIT_MS) > 0) {
        if ((ready[1].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
            char ignored[64];
            ended = (read(STDIN_FILENO, ignored, sizeof ignored) <= 0) ? 1 : ended;
        }
        if ((ready[0].revents & POLLIN) != 0) {
            count = read(line_fd, data, room);
        }
    }
    return (count > 0) ? (size_t)count : 0u;
}

size_t board_uart_write(const uint8_t *data, size_t length) {
    const ssize_t count = write(line_fd, data, length); /* non-blocking: a host that does not read loses answers */
    return (count > 0) ? (size_t)count : 0u;
}

void board_actuate(const float *setpoint, size_t channels, bool drive) {
    plant_step(setpoint, channels, drive);
}

uint16_t board_sense(float *position, float *effort, size_t channels) {
    plant_read(position, effort, channels);
    return 0u;
}

/* A raw pty, its own end non-blocking. The slave stays open here: without it reads fail whenever no host is there. */
static const char *open_line(void) {
    struct termios raw;
    const char *name = NULL;
    line_fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    if ((line_fd >= 0) && (grantpt(line_fd) == 0) && (unlockpt(line_fd) == 0)) {
        name = ptsname(line_fd);
    }
    slave_fd = (name != NULL) ? open(name, O_RDWR | O_NOCTTY) : -1;
    if ((slave_fd < 0) || (tcgetattr(slave_fd, &raw) != 0)) {
        return NULL;
    }
    cfmakeraw(&raw);
    return (tcsetattr(slave_fd, TCSANOW, &raw) == 0) ? name : NULL;
}

static void report(void) {
    const fw_device *device = &loop.device;
    const el_counts *counts = &device->decoder.counts;
    (void)printf("{\"event\": \"exit\", \"mode\": %u, \"faults\": %u, \"accepted\": %lu, \"watchdog_trips\": %lu, "
                 "\"lost_replies\": %lu, \"skipped_periods\": %lu, \"frames\": %lu, \"spoiled\": %lu}\n",
                 (unsigned)device->mode, (unsigned)device->faults, (unsigned long)device->accepted,
                 (unsigned long)device->watchdog_trips, (unsigned long)device->lost_replies,
                 (unsigned long)loop.skipped, (unsigned long)counts->frames,
                 (unsigned long)counts->bad_stuffing + counts->bad_crc + counts->bad_message + counts->too_short +
                     counts->too_long);
    (void)fflush(stdout);
}

static bool read_arguments(int count, char **arguments) {
    char *rest = NULL;
    if (count == 3) {
        clock_start_us = (uint32_t)strtoul(arguments[2], &rest, 10);
    }
    return (count == 1) || ((count == 3) && (strcmp(arguments[1], "--clock-us") == 0) && (*rest == '\0'));
}

int main(int count, char **arguments) {
    if (!read_arguments(count, arguments)) {
        (void)fprintf(stderr, "usage: edgelink-host [--clock-us N]\n");
        return 2;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &epoch);
    (void)signal(SIGTERM, end);
    (void)signal(SIGINT, end);
    const char *port = open_line();
    plant_start(CONFIG_START, CONFIG_CHANNELS);
    if (port == NULL) {
        perror("error: no pty for the line");
        return 5;
    }
    if (!fw_loop_start(&loop, &CONFIG)) {
        (void)fprintf(stderr, "error: the configuration in config.h is unsound: write it again from a profile\n");
        return 4;
    }
    (void)printf("{\"port\": \"%s\", \"pid\": %ld, \"schema\": %lu, \"profile\": \"%s\"}\n", port, (long)getpid(),
                 (unsigned long)CONFIG.schema, CONFIG_IDENTITY.name);
    (void)fflush(stdout);
    while (ended == 0) {
        fw_loop_spin(&loop);
    }
    report();
    return 0;
}
