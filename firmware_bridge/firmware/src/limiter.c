#include "limiter.h"

#include <float.h>
#include <math.h>

#if defined(__FAST_MATH__)
#error "the limiter is proved for IEEE arithmetic: no -ffast-math"
#endif
#if FLT_EVAL_METHOD != 0
#error "the limiter is proved for double arithmetic without excess precision (x87: use -msse2 -mfpmath=sse)"
#endif

#define TRIALS 12u  /* of the search for the last acceleration that can brake */
#define REST 1e-9   /* channel units per second: rounding left of a stop, not a motion */

typedef struct {
    double velocity;
    double acceleration;
} frame;

static const frame STILL = {0.0, 0.0};

/* Python's min() and max(): the first of two equal ones. */
static double lesser(double a, double b) {
    return (b < a) ? b : a;
}

static double greater(double a, double b) {
    return (b > a) ? b : a;
}

static double clipped(double value, double low, double high) {
    return (value < low) ? low : ((value > high) ? high : value);
}

/* --- braking.py ----------------------------------------------------------------------------------------------- */

static bool can_stay(const lim_axis *axis, double v, double a) {
    const double per_step = axis->jerk * axis->step;
    const double most = (axis->acceleration < per_step) ? axis->acceleration : per_step;
    return (fabs(v) <= (most * axis->step)) && (fabs(v + (a * axis->step)) <= (per_step * axis->step));
}

static double largest_acceleration(const lim_axis *axis, double room, double h) {
    const double per_step = axis->jerk * axis->step;
    const double p = (h / axis->step) - 0.5;
    const double m = floor(sqrt((p * p) + ((2.0 * room) / (per_step * axis->step))) - p);
    if (m < 1.0) {
        return room / h;
    }
    const double at_knot = per_step * ((m * h) + (axis->step * ((0.5 * m) * (m - 1.0))));
    return (m * per_step) + ((room - at_knot) / (h + (m * axis->step)));
}

static double travel_up(const lim_axis *axis, double v, double a) {
    if (can_stay(axis, v, a)) {
        return 0.0;
    }
    const double turning = (a * a) / (2.0 * axis->jerk);
    if ((v > 0.0) && (a < 0.0) && (v < turning)) {
        /* It turns round before the deceleration can be taken back: it climbs only until then. */
        const double t = (-a - sqrt((a * a) - ((2.0 * axis->jerk) * v))) / axis->jerk;
        return t * (v + (t * ((0.5 * a) + ((t * axis->jerk) / 6.0))));
    }
    if ((v <= 0.0) && ((a <= 0.0) || ((v + turning) <= 0.0))) {
        return 0.0;
    }
    const double from_zero = v + turning;
    double distance;
    if ((from_zero * axis->jerk) <= (axis->acceleration * axis->acceleration)) {
        distance = from_zero * sqrt(from_zero / axis->jerk);
    } else {
        distance = (0.5 * from_zero) * ((from_zero / axis->acceleration) + (axis->acceleration / axis->jerk));
    }
    const double rest = distance + ((a * (from_zero - (turning / 3.0))) / axis->jerk);
    return (rest > 0.0) ? rest : 0.0;
}

lim_axis lim_axis_of(const lim_range *range, double step_s) {
    lim_axis axis;
    const float end = (float)greater(fabs(range->low), fabs(range->high));
    const float spacing = nextafterf(end, INFINITY) - end;
    const float rounding = spacing / (float)step_s; /* float32, as NumPy divides it */
    axis.low = range->low;
    axis.high = range->high;
    axis.velocity = greater(range->max_velocity - (double)rounding, 0.0);
    axis.acceleration = range->max_acceleration;
    axis.jerk = range->max_jerk;
    axis.deceleration = range->stop_deceleration;
    axis.step = step_s;
    const double fastest = axis.velocity / step_s; /* acceleration of a stop from full speed within one step */
    axis.nimble = (fastest <= axis.acceleration) && ((fastest + axis.acceleration) <= (axis.jerk * step_s));
    axis.reach = travel_up(&axis, axis.velocity, axis.acceleration);
    return axis;
}

/* --- channel.py ----------------------------------------------------------------------------------------------- */

static double spare(const lim_axis *axis, double room, double v, frame seen_from, double a, double h) {
    const double after = v + (a * h);
    return (room - (after * h)) - travel_up(axis, after - seen_from.velocity, a - seen_from.acceleration);
}

/* The largest acceleration between `least` and `a` after which `room` above is enough to stop in. */
static double last_that_brakes(const lim_axis *axis, double room, double v, frame seen_from, double a, double least,
                               double h) {
    if (a <= least) {
        return a;
    }
    double bad_spare = spare(axis, room, v, seen_from, a, h);
    if (bad_spare >= 0.0) {
        return a;
    }
    double good = least;
    double bad = a;
    const double enough = (((1e-3 * axis->jerk) * h) * h) * h;
    double good_spare = spare(axis, room, v, seen_from, least, h);
    if (good_spare <= 0.0) {
        return least;
    }
    int last = 0; /* which end moved last: one that stays twice weighs half as much (Illinois) */
    for (unsigned trial = 0u; trial < TRIALS; trial++) {
        const double middle = good + ((bad - good) * (good_spare / (good_spare - bad_spare)));
        const double left = spare(axis, room, v, seen_from, middle, h);
        if (left >= 0.0) {
            good = middle;
            good_spare = left;
            if (left <= enough) {
                break;
            }
            bad_spare = (last > 0) ? (0.5 * bad_spare) : bad_spare;
            last = 1;
        } else {
            bad = middle;
            bad_spare = left;
            good_spare = (last < 0) ? (0.5 * good_spare) : good_spare;
            last = -1;
        }
    }
    return good;
}

static lim_row stepped(const lim_axis *axis, double s, double v, double a, double h) {
    lim_row row;
    row.acceleration = a;
    row.velocity = v + (a * h);
    row.setpoint = s + (row.velocity * h);
    const bool over = (s <= axis->high) && (axis->high < row.setpoint);
    const bool under = (s >= axis->low) && (axis->low > row.setpoint);
    if (over || under) { /* by rounding only: the last bit */
        row.setpoint = lesser(greater(row.setpoint, axis->low), axis->high);
        row.velocity = (row.setpoint - s) / h;
        row.acceleration = (row.velocity - v) / h;
    }
    return row;
}

/* The accelerations that jerk and acceleration limits leave; one alone when `a` itself is beyond its limit. */
static void window(const lim_axis *axis, double a, double h, double *low, double *high) {
    const double change = axis->jerk * h;
    const double most = axis->acceleration;
    *low = a - change;
    *high = a + change;
    if (*low < -most) {
        *low = -most;
    }
    if (*high > most) {
        *high = most;
    }
    if (*low > *high) {
        *low = (a > 0.0) ? (a - change) : (a + change);
        *high = *low;
    }
}

/* `a`, unless it or the way back from it to zero goes beyond max_velocity. */
static double bounded_in_speed(const lim_axis *axis, double v, double wanted, double low, double high, double h) {
    double a = wanted;
    if (((fabs(v) + (fabs(a) * h)) + (((0.5 * a) * a) / axis->jerk)) <= axis->velocity) {
        return a; /* at a glance: steps of any length gain no more than this */
    }
    const double above = axis->velocity - v;
    const double below = axis->velocity + v;
    if ((a > 0.0) || (above < 0.0)) {
        const double most = (above >= 0.0) ? largest_acceleration(axis, above, h) : (above / h);
        a = greater(lesser(a, most), low);
    }
    if ((a < 0.0) || (below < 0.0)) {
        const double most = (below >= 0.0) ? largest_acceleration(axis, below, h) : (below / h);
        a = lesser(greater(a, -most), high);
    }
    return a;
}

/* `a`, or less, so that seen from the moving target the arm stops on it and not behind it. */
static double approach(const lim_axis *axis, double s, double v, double a, lim_row wanted, double low, double high,
                       double h) {
    const double fastest = axis->velocity;
    const double most = 0.5 * axis->acceleration;
    const double speed = clipped(wanted.velocity, -fastest, fastest);
    const double rise = clipped(wanted.acceleration, -most, most);
    if (wanted.setpoint >= s) {
        const frame ahead = {speed, rise};
        return last_that_brakes(axis, wanted.setpoint - s, v, ahead, a, low, h);
    }
    const frame behind = {-speed, -rise};
    return -last_that_brakes(axis, s - wanted.setpoint, -v, behind, -a, -high, h);
}

/* `chosen`, or the nearest acceleration from which both ends of the range can still be kept. */
static double bounded_in_range(const lim_axis *axis, lim_row now, double chosen, double low, double high, double h) {
    const double v = now.velocity;
    const double a = now.acceleration;
    const double near = axis->reach + (axis->velocity * h);
    double above = axis->high - now.setpoint;
    double below = now.setpoint - axis->low;
    if ((above >= near) && (below >= near)) {
        return chosen;
    }
    if (above < 0.0) {
        above = travel_up(axis, v, a); /* outside, after a re-arm: no further out than a stop takes it */
    }
    if (below < 0.0) {
        below = travel_up(axis, -v, -a);
    }
    double found = chosen;
    if (above < near) {
        found = last_that_brakes(axis, above, v, STILL, found, low, h);
    }
    if (below < near) {
        found = -last_that_brakes(axis, below, -v, STILL, -found, -high, h);
    }
    if ((found == chosen) || (!can_stay(axis, v, a))) {
        return found;
    }
    const bool brakes =
        (spare(axis, above, v, STILL, found, h) >= 0.0) && (spare(axis, below, -v, STILL, -found, h) >= 0.0);
    return brakes ? found : (-v / h);
}

/* The common case, at a glance: the step to the target with acceleration `free` breaks nothing. */
static bool plainly_allowed(const lim_axis *axis, double s, double v, double a, double free, double h) {
    if ((fabs(free) > axis->acceleration) || (fabs(free - a) > (axis->jerk * h))) {
        return false;
    }
    if (axis->nimble) {
        return fabs(v) <= axis->velocity;
    }
    const double near = axis->reach + (axis->velocity * h);
    if (!(((axis->low + near) <= s) && (s <= (axis->high - near)))) {
        return false;
    }
    return (fabs(v) + (((0.5 * free) * free) / axis->jerk)) <= axis->velocity;
}

unsigned lim_track_channel(const lim_axis *axis, lim_row now, lim_row wanted, double h, lim_row *next) {
    const double s = now.setpoint;
    const double v = now.velocity;
    const double target = clipped(wanted.setpoint, axis->low, axis->high);
    unsigned bits = (target == wanted.setpoint) ? 0u : LIM_RANGE;
    const double speed = (target - s) / h;
    const double free = (speed - v) / h;
    const lim_row straight = {target, speed, free};
    if (plainly_allowed(axis, s, speed, now.acceleration, free, h)) {
        *next = straight;
        return bits;
    }
    const double slack = (1e-6 * greater(1.0, fabs(s))) / (h * h); /* what float32 rounding can explain */
    double low;
    double high;
    window(axis, now.acceleration, h, &low, &high);
    const double chosen = clipped(free, low, high);
    if (fabs(chosen - free) > slack) {
        bits |= (fabs(chosen) == axis->acceleration) ? LIM_ACCELERATION : LIM_JERK;
    }
    double bounded = bounded_in_speed(axis, v, chosen, low, high, h);
    if (fabs(bounded - chosen) > (slack + ((1e-3 * axis->velocity) / h))) {
        bits |= LIM_VELOCITY;
    }
    if (axis->nimble) {
        *next = stepped(axis, s, v, bounded, h);
        return bits;
    }
    if (bounded != free) {
        const lim_row aim = {target, wanted.velocity, wanted.acceleration};
        const double eased = approach(axis, s, v, bounded, aim, low, high, h);
        bounded = bounded_in_speed(axis, v, eased, low, high, h);
    }
    const double braking = bounded_in_range(axis, now, bounded, low, high, h);
    if (fabs(braking - bounded) > slack) {
        bits |= LIM_RANGE;
    }
    *next = (braking == free) ? straight : stepped(axis, s, v, braking, h);
    return bits;
}

unsigned lim_slow_channel(const lim_axis *axis, lim_row now, double h, lim_row *next) {
    const double v = now.velocity;
    double low;
    double high;
    window(axis, now.acceleration, h, &low, &high);
    const double hardest = lesser(largest_acceleration(axis, fabs(v), h), axis->deceleration);
    const double chosen = lesser(greater((v > 0.0) ? -hardest : hardest, low), high);
    const double braking = bounded_in_range(axis, now, chosen, low, high, h);
    if (fabs(v + (braking * h)) < REST) {
        next->setpoint = now.setpoint;
        next->velocity = 0.0;
        next->acceleration = (fabs(v) >= REST) ? (-v / h) : 0.0;
        return 0u;
    }
    *next = stepped(axis, now.setpoint, v, braking, h);
    return (braking != chosen) ? LIM_RANGE : 0u;
}

/* --- limiter.py ----------------------------------------------------------------------------------------------- */

void lim_rest_at(lim_motion *motion, const double *setpoint, size_t channels) {
    motion->channels = channels;
    motion->has_wanted = false;
    for (size_t i = 0u; i < channels; i++) {
        const lim_row row = {setpoint[i], 0.0, 0.0};
        motion->row[i] = row;
        motion->wanted[i] = setpoint[i];
        motion->wanted_velocity[i] = 0.0;
    }
}

bool lim_resting(const lim_motion *motion) {
    bool resting = true;
    for (size_t i = 0u; i < motion->channels; i++) {
        /* fabs() > 0 and not != 0: a NaN, which cannot be here, would count as rest and not as motion for ever */
        if ((fabs(motion->row[i].velocity) > 0.0) || (fabs(motion->row[i].acceleration) > 0.0)) {
            resting = false;
        }
    }
    return resting;
}

unsigned lim_slow_down(const lim_axis *axes, lim_motion *motion, double elapsed_s) {
    unsigned bits = 0u;
    for (size_t i = 0u; i < motion->channels; i++) {
        bits |= lim_slow_channel(&axes[i], motion->row[i], elapsed_s, &motion->row[i]);
    }
    motion->has_wanted = false;
    return bits;
}

unsigned lim_track(const lim_axis *axes, lim_motion *motion, const double *wanted, double elapsed_s) {
    unsigned bits = 0u;
    for (size_t i = 0u; i < motion->channels; i++) {
        if (!isfinite(wanted[i])) {
            return lim_slow_down(axes, motion, elapsed_s) | LIM_NOT_FINITE;
        }
    }
    for (size_t i = 0u; i < motion->channels; i++) {
        const double before = motion->has_wanted ? motion->wanted[i] : wanted[i];
        const double before_v = motion->has_wanted ? motion->wanted_velocity[i] : 0.0;
        const double velocity = (wanted[i] - before) / elapsed_s;
        const lim_row aim = {wanted[i], velocity, (velocity - before_v) / elapsed_s};
        bits |= lim_track_channel(&axes[i], motion->row[i], aim, elapsed_s, &motion->row[i]);
        motion->wanted[i] = wanted[i];
        motion->wanted_velocity[i] = velocity;
    }
    motion->has_wanted = true;
    return bits;
}
