// What the kernels share. This text stands before that of every other file here when it is compiled.
//
// `real` is float, double or half; the compiler is told which (-Dreal=float). Arrays are contiguous, rows first.
//
// How work is divided. A kernel is the program of one *thread*; thousands run at once. 32 threads form a *warp*, which
// executes in step and can exchange numbers directly (__shfl_xor_sync). Up to 1,024 threads form a *block*, which
// shares a little fast memory (__shared__) and can wait for one another (__syncthreads). The blocks of a launch form
// the *grid*, and know nothing of each other.
//
// The speed limit of nearly everything here is memory: a card does some 50 operations in the time that it needs to read
// one number. So each kernel reads its arrays once, where NumPy's text would read them once per operation; and
// neighbouring threads read neighbouring numbers, because memory is delivered in pieces of 32 numbers.

// --- Half precision --------------------------------------------------------------------------------------------------

#ifndef half  // (The tests, which run this on a CPU, bring a half of their own.)
// A number of 16 bits in memory; whoever computes with it computes with a float. The two instructions are all that is
// needed of cuda_fp16.h, which would have to be found where it happens to be installed.
struct half {
    unsigned short bits;
    __device__ half(float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x)); }
    __device__ operator float() const {
        float x;
        asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
        return x;
    }
};
#endif

// What a kernel computes and adds up in: float for half, else real itself.
template <class T> struct AccurateFor { typedef T type; };
template <> struct AccurateFor<half> { typedef float type; };
typedef AccurateFor<real>::type accurate;

// --- A row of a matrix: blockDim.x threads work on it together ------------------------------------------------------
//
// For short rows that is one warp, and a block takes blockDim.y rows; for long ones it is the whole block. Thread x
// takes the elements x, x + blockDim.x, x + 2 blockDim.x, ... of its row.

#define ALL_LANES 0xffffffffu

// The row of this thread; there may be none left for the last block's threads.
__device__ long long row_of_thread() { return (long long)blockIdx.x * blockDim.y + threadIdx.y; }

// Σ x over the threads of a row; every one of them gets it. After the step with 16 each thread of a warp holds the sum
// of two, then of four, ..., then of 32: five exchanges instead of 31 additions. The order is always the same, and so
// is the rounding.
__device__ accurate sum_of_row(accurate x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(ALL_LANES, x, step);
    if (blockDim.x == 32) return x;
    __shared__ accurate sums[32];  // one of each warp
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    __syncthreads();  // whoever still reads the sums of the call before
    if (lane == 0) sums[warp] = x;
    __syncthreads();
    x = lane < blockDim.x / 32 ? sums[lane] : 0;
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(ALL_LANES, x, step);
    return x;
}

// max x over the threads of a row, in the same way.
__device__ accurate max_of_row(accurate x) {
    for (int step = 16; step > 0; step /= 2) x = max(x, __shfl_xor_sync(ALL_LANES, x, step));
    if (blockDim.x == 32) return x;
    __shared__ accurate maxima[32];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    __syncthreads();
    if (lane == 0) maxima[warp] = x;
    __syncthreads();
    x = maxima[lane < blockDim.x / 32 ? lane : 0];
    for (int step = 16; step > 0; step /= 2) x = max(x, __shfl_xor_sync(ALL_LANES, x, step));
    return x;
}

// The lowest finite number. Where a row is -inf throughout, -inf - (-inf) would be NaN; -inf - LOWEST is -inf.
#define LOWEST ((accurate)(sizeof(accurate) == 4 ? -3.402823466e+38 : -1.7976931348623157e+308))

// --- All elements of an array, one after the other -------------------------------------------------------------------
//
// Thread i of all takes the elements i, i + (number of threads), ...: any number of threads does any number of elements.

#define FOR_EACH(i, n)                                                                                          \
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (long long)gridDim.x * blockDim.x)

// --- Random numbers --------------------------------------------------------------------------------------------------

// A 32-bit hash in which each input bit flips each output bit with probability close to 1/2; see random.py.
__device__ unsigned int mix(unsigned int x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

// Dropout: element i becomes 0 where its 32 random bits, a pure function of (key, i), lie below threshold = p 2³²; or
// else it is multiplied by `kept` = 1 / (1 - p). The same bits as on the CPU.
__device__ accurate dropped_or_kept(long long i, unsigned int key, unsigned int threshold, accurate kept) {
    return mix(mix((unsigned int)i) ^ key) < threshold ? 0 : kept;
}
