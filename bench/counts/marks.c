/* Says to callgrind from which call to which it counts. Outside valgrind each of these does nothing. */
#include <valgrind/callgrind.h>

int marks_running(void) { return (int)RUNNING_ON_VALGRIND; }

void marks_start(void) { CALLGRIND_START_INSTRUMENTATION; }

void marks_zero(void) { CALLGRIND_ZERO_STATS; }

void marks_dump(const char *label) { CALLGRIND_DUMP_STATS_AT(label); }
