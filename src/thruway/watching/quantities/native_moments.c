/* Sums behind mean, standard deviation, zeros and saturation, from one pass over the numbers: three to ten times as
   fast as a torch call for each. Sums are in double, where squares of floats neither overflow nor underflow, and
   sums lose little to cancellation. */

#include <stdint.h>

#define LANES 32     /* independent sums: enough to keep the adders of any current processor busy */
#define SUMS 5       /* numbers per row: sum, sum of squares, zeros, values at most low, values at least high */
#define STEEP 1e10   /* above this ratio of squared mean to variance, E[x^2] - mean^2 is too inaccurate */
#define CHUNK 8192   /* numbers counted before the counts are added up in 64 bits */

/* One copy of the loops per generation of processors, chosen when the library is loaded. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

typedef struct {
    int64_t count;  /* numbers in a row */
    int64_t counts; /* 1 to count zeros and saturated values */
    float low, high;
} Plan;

CLONES static void add_up(const float *x, int64_t n, double *sums) {
    double sum[LANES] = {0}, square[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            double v = x[i + lane];
            sum[lane] += v;
            square[lane] += v * v;
        }
    for (int lane = 0; i < n; i++, lane++) {
        double v = x[i];
        sum[lane] += v;
        square[lane] += v * v;
    }
    sums[0] = sums[1] = 0;
    for (int lane = 0; lane < LANES; lane++) {
        sums[0] += sum[lane];
        sums[1] += square[lane];
    }
}

CLONES static void count(const float *x, int64_t n, float low, float high, double *sums) {
    int64_t zeros = 0, at_low = 0, at_high = 0;
    for (int64_t start = 0; start < n; start += CHUNK) {
        int64_t end = start + CHUNK < n ? start + CHUNK : n;
        int32_t zero = 0, below = 0, above = 0;
        for (int64_t i = start; i < end; i++) {
            zero += x[i] == 0.0f;
            below += x[i] <= low;
            above += x[i] >= high;
        }
        zeros += zero;
        at_low += below;
        at_high += above;
    }
    sums[2] = (double)zeros;
    sums[3] = (double)at_low;
    sums[4] = (double)at_high;
}

/* Returns 1 if mean and standard deviation can be computed from the sums, 0 if the row needs the formulas of Rows. */
static int sum_row(const Plan *plan, const float *x, double *sums) {
    add_up(x, plan->count, sums);
    double n = (double)plan->count, mean = sums[0] / n, mean_square = sums[1] / n;
    /* A NaN fails every comparison; the mean of an empty row is one, too. */
    int is_accurate = mean * mean < STEEP * (mean_square - mean * mean) && sums[1] < 1e300;
    if (!is_accurate && !(sums[1] == 0 && n > 0))
        return 0;
    if (plan->counts)
        count(x, plan->count, plan->low, plan->high, sums);
    return 1;
}

/* Sums of `rows` rows, each `stride` numbers after the one before; returns 0 if a row needs the formulas of Rows. */
int sum_rows(const Plan *plan, const float *x, int64_t rows, int64_t stride, double *sums) {
    for (int64_t row = 0; row < rows; row++, x += stride, sums += SUMS)
        if (!sum_row(plan, x, sums))
            return 0;
    return 1;
}

/* The same for rows at the addresses `x`. */
int sum_rows_at(const Plan *plan, const float *const *x, int64_t rows, double *sums) {
    for (int64_t row = 0; row < rows; row++, sums += SUMS)
        if (!sum_row(plan, x[row], sums))
            return 0;
    return 1;
}
