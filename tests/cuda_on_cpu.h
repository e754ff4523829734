// Runs CUDA kernels on the CPU. This text stands before that of a .cu file, which g++ then takes for C++.
//
// Every thread of a block is a fiber: it has a stack of its own and runs until it must wait for others. A warp's 32
// threads wait for each other at every shuffle, a block's threads at __syncthreads. Between two waits the threads run
// one after the other, in ascending or descending order: a kernel whose result depends on that order has a race, and
// the tests run both. Shared memory is filled with NaN before each block. What would hang or be undefined on a card is
// an error here: a warp of which some threads shuffle while others have left or wait elsewhere.
//
// Calls come from Python with the interpreter's lock held, so plain global variables will do.

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

#define half _Float16
#define __global__
#define __device__ static
#define __forceinline__ inline
#define __shared__ static __attribute__((section("cuda_shared")))  // one section, so that it can be filled at once

using std::erfc, std::exp, std::isfinite, std::log, std::nan, std::sqrt, std::tanh;

template <class T>
static T max(T a, T b) { return a > b || b != b ? a : b; }  // of a number and NaN the number, as on a card
static int min(int a, int b) { return a < b ? a : b; }

struct dim3 {
    unsigned x, y, z;
};

static dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

enum Status { READY, AT_SHUFFLE, AT_BARRIER, DONE };

struct Fiber {
    ucontext_t start;
    jmp_buf place;
    bool begun = false;
    Status status = DONE;
    unsigned shuffles = 0;
    dim3 index;
};

const int MOST = 1024, STACK = 1 << 16;
static Fiber fibers[MOST];
static ucontext_t entrance;
static jmp_buf scheduler;
static int current;                                   // the fiber that runs
static unsigned char exchange[MOST][2][8];            // what each thread offers: to this shuffle, to the next
static void (*call)(void**);                          // the kernel
static void** arguments;

static void wait(Status status) {
    fibers[current].status = status;
    if (!_setjmp(fibers[current].place)) _longjmp(scheduler, 1);
}

static void body() {
    for (;;) {  // one round per block
        call(arguments);
        wait(DONE);
    }
}

static void run(int i) {
    Fiber& fiber = fibers[i];
    current = i;
    threadIdx = fiber.index;
    if (_setjmp(scheduler)) return;  // it waits, or has finished
    if (fiber.begun) _longjmp(fiber.place, 1);
    fiber.begun = true;
    getcontext(&fiber.start);
    void* stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    fiber.start.uc_stack.ss_sp = stack;
    fiber.start.uc_stack.ss_size = STACK;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, body, 0);
    setcontext(&fiber.start);
}

// All threads of one warp, until each has finished or waits at the block's barrier.
static const char* run_warp(int first, int last, bool descending) {
    for (;;) {
        int shuffling = 0, elsewhere = 0;
        for (int k = first; k < last; k++) {
            int i = descending ? first + last - 1 - k : k;
            if (fibers[i].status == READY) run(i);
        }
        for (int i = first; i < last; i++) (fibers[i].status == AT_SHUFFLE ? shuffling : elsewhere)++;
        if (!shuffling) return nullptr;
        if (elsewhere || last - first < 32) return "a shuffle that not all 32 threads of the warp take part in";
        for (int i = first; i < last; i++) fibers[i].status = READY;
    }
}

static const char* run_block(bool descending) {
    int n = blockDim.x * blockDim.y * blockDim.z, warps = (n + 31) / 32;
    for (int i = 0; i < n; i++) {
        fibers[i].status = READY;
        fibers[i].shuffles = 0;
        fibers[i].index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    }
    for (;;) {
        for (int k = 0; k < warps; k++) {
            int w = descending ? warps - 1 - k : k;
            if (const char* error = run_warp(32 * w, min(32 * w + 32, n), descending)) return error;
        }
        int waiting = 0;
        for (int i = 0; i < n; i++) waiting += fibers[i].status == AT_BARRIER;
        if (!waiting) return nullptr;
        if (waiting < n) return "__syncthreads that not all threads of the block reach";
        for (int i = 0; i < n; i++) fibers[i].status = READY;
    }
}

// What a parameter is, for the caller to check its arguments: "*f4" pointer to float, "i4" int, "u4" unsigned, "f8"
// double, "S512" a struct of 512 bytes.
template <class T>
static void describe(char* text) {
    if constexpr (std::is_pointer_v<T>) {
        *text++ = '*';
        return describe<std::remove_cv_t<std::remove_pointer_t<T>>>(text);
    }
    char kind = std::is_floating_point_v<T> || std::is_same_v<T, half> ? 'f' : !std::is_integral_v<T> ? 'S' : std::is_signed_v<T> ? 'i' : 'u';
    sprintf(text, "%c%d ", kind, (int)sizeof(T));
}

template <auto kernel, class... A, size_t... I>
void apply(void (*)(A...), void** args, std::index_sequence<I...>) {
    kernel(*(A*)args[I]...);
}

template <class... A>
static const char* signature(void (*)(A...)) {
    static char text[1000];
    text[0] = 0;
    (describe<A>(text + strlen(text)), ...);
    return text;
}

template <class... A>
constexpr auto indices(void (*)(A...)) {
    return std::index_sequence_for<A...>{};
}

}  // namespace emulation

extern "C" char __start_cuda_shared __attribute__((weak)), __stop_cuda_shared __attribute__((weak));

static inline void __syncthreads() { emulation::wait(emulation::AT_BARRIER); }

template <class T>
static T __shfl_xor_sync(unsigned mask, T value, int lanes) {
    using namespace emulation;
    static_assert(sizeof(T) <= 8);
    if (mask != 0xffffffffu) fprintf(stderr, "cuda_on_cpu: only full masks\n"), std::abort();
    int turn = fibers[current].shuffles++ % 2;  // two places in turn: nobody overwrites what is still to be read
    std::memcpy(exchange[current][turn], &value, sizeof(T));
    wait(AT_SHUFFLE);
    std::memcpy(&value, exchange[current ^ lanes][turn], sizeof(T));
    return value;
}

// KERNEL(name): entry points for Python. launch_<name> returns an error message, or null.
#define KERNEL(name)                                                                                              \
    extern "C" const char* signature_##name() { return emulation::signature(&name); }                             \
    extern "C" const char* launch_##name(const unsigned* g, const unsigned* b, void** args, bool descending) {    \
        using namespace emulation;                                                                                \
        call = [](void** args) { apply<&name>(&name, args, indices(&name)); };                                    \
        arguments = args;                                                                                         \
        gridDim = {g[0], g[1], g[2]};                                                                             \
        blockDim = {b[0], b[1], b[2]};                                                                            \
        for (unsigned z = 0; z < g[2]; z++)                                                                       \
            for (unsigned y = 0; y < g[1]; y++)                                                                   \
                for (unsigned x = 0; x < g[0]; x++) {                                                             \
                    blockIdx = {x, y, z};                                                                         \
                    if (&__start_cuda_shared)                                                                     \
                        std::memset(&__start_cuda_shared, 0xff, &__stop_cuda_shared - &__start_cuda_shared);      \
                    if (const char* error = run_block(descending)) {                                              \
                        for (Fiber & fiber : fibers) fiber.begun = false; /* they stand in the middle */          \
                        return error;                                                                             \
                    }                                                                                             \
                }                                                                                                 \
        return nullptr;                                                                                           \
    }
