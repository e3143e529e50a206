// Runs kernels on the CPU, a block after the other, so that what they compute is checked where no GPU is: each thread of a block is a
// coroutine, and they take turns where they meet: one after the other or, where WARPS_ALONE is set, a warp as far as it comes before the
// next, which shows a meeting that is missing. What it does not show: all other races, and speed.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __device__
#define __global__
#define __shared__ static
#define __launch_bounds__(threads)

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace gpu {

// A place where `size` threads wait for each other.
struct Meeting {
    unsigned size = 0, here = 0, times = 0;
};

struct Thread {
    ucontext_t context;
    std::vector<char> stack;
    bool done = false;
};

inline std::vector<Thread> threads;
inline std::vector<Meeting> warps;
inline Meeting block;
// What the threads of each warp lay open to each other.
inline std::vector<char> open;
inline ucontext_t scheduler;
inline unsigned current;
inline bool moved;
inline std::function<void()> kernel;
constexpr unsigned WARP = 32, OPEN = 64;

inline void meet(Meeting& meeting) {
    unsigned times = meeting.times;
    moved = true;
    if (++meeting.here == meeting.size) {
        meeting.here = 0;
        meeting.times++;
    }
    while (meeting.times == times) {
        swapcontext(&threads[current].context, &scheduler);
    }
    moved = true;
}

inline void run_thread() {
    kernel();
    threads[current].done = true;
    // Those who are done are not waited for.
    for (Meeting* meeting : {&block, &warps[current / WARP]}) {
        meeting->size--;
        if (meeting->size > 0 && meeting->here == meeting->size) {
            meeting->here = 0;
            meeting->times++;
        }
    }
    moved = true;
    swapcontext(&threads[current].context, &scheduler);
}

inline void run_block(unsigned count) {
    if (threads.size() < count) {
        threads.resize(count);
    }
    warps.assign((count + WARP - 1) / WARP, {});
    open.assign(count * OPEN, 0);
    block = {count};
    for (unsigned i = 0; i < count; i++) {
        Thread& thread = threads[i];
        warps[i / WARP].size++;
        thread.stack.resize(1 << 18);
        thread.done = false;
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.data();
        thread.context.uc_stack.ss_size = thread.stack.size();
        thread.context.uc_link = nullptr;
        makecontext(&thread.context, run_thread, 0);
    }
    static const bool alone = std::getenv("WARPS_ALONE") != nullptr;
    unsigned together = alone ? WARP : count;
    for (unsigned left = count; left > 0;) {
        bool any = false;
        for (unsigned first = 0; first < count; first += together) {
            do {
                moved = false;
                for (current = first; current < count && current < first + together; current++) {
                    if (!threads[current].done) {
                        threadIdx.x = current;
                        swapcontext(&scheduler, &threads[current].context);
                        left -= threads[current].done;
                    }
                }
                any |= moved;
            } while (alone && moved);
        }
        if (!any) {
            std::fprintf(stderr, "threads of a block wait for each other without end\n");
            std::exit(1);
        }
    }
}

// As `kernel<<<blocks, threads>>>(arguments)`.
template <class Kernel, class... Arguments>
void launch(dim3 blocks, unsigned threads, Kernel of, Arguments... arguments) {
    kernel = [=] { of(arguments...); };
    gridDim = blocks, blockDim = {threads};
    for (blockIdx.y = 0; blockIdx.y < blocks.y; blockIdx.y++) {
        for (blockIdx.x = 0; blockIdx.x < blocks.x; blockIdx.x++) {
            run_block(threads);
        }
    }
}

// Lays a value open, and gives a way to read those of the warp; `close` when all are read.
template <class T>
T* lay_open(T mine) {
    static_assert(sizeof(T) <= OPEN);
    std::memcpy(&open[current * OPEN], &mine, sizeof(T));
    meet(warps[current / WARP]);
    return reinterpret_cast<T*>(&open[current / WARP * WARP * OPEN]);
}

template <class T>
const T& of_lane(const T* opened, unsigned lane) {
    return *reinterpret_cast<const T*>(reinterpret_cast<const char*>(opened) + lane * OPEN);
}

inline void close() { meet(warps[current / WARP]); }

}  // namespace gpu

inline void __syncthreads() { gpu::meet(gpu::block); }

template <class T>
T __shfl_xor_sync(unsigned, T mine, int apart) {
    const T* all = gpu::lay_open(mine);
    T other = gpu::of_lane(all, gpu::current % gpu::WARP ^ apart);
    gpu::close();
    return other;
}

template <class To, class From>
To bits_as(From from) {
    To to;
    static_assert(sizeof(to) == sizeof(from));
    std::memcpy(&to, &from, sizeof(to));
    return to;
}

inline float __uint_as_float(unsigned bits) { return bits_as<float>(bits); }
inline unsigned __float_as_uint(float value) { return bits_as<unsigned>(value); }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }

template <class T>
T atomicMin(T* at, T value) {
    T before = *at;
    *at = value < before ? value : before;
    return before;
}
