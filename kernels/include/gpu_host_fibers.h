// The threads of one block as fibers: each has a stack of its own and runs until its next barrier, then the next thread
// runs, in a round. All run in the one thread of the host that launched, so what is thread-local is shared by the block;
// threadIdx is set anew at each switch. Only gpu_host.h includes this.
//
// A fiber is begun by POSIX ucontext, and then switched to by _longjmp, which makes no call of the system. Where
// _FORTIFY_SOURCE is on, longjmp refuses another stack: compile with -U_FORTIFY_SOURCE.
#pragma once

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include <memory>
#include <vector>

namespace gpu_host {

constexpr uint32_t MAX_BLOCK = 1024;

class Fibers {
  public:
    // For blocks of blockDim.
    explicit Fibers(std::function<void()> thread_body)
        : body(std::move(thread_body)),
          threads(std::move(spare)),
          count(blockDim.x * blockDim.y * blockDim.z) {
        if (threads.size() < count) threads.resize(count);
        size_t thread = 0;
        for (uint32_t z = 0; z < blockDim.z; ++z) {
            for (uint32_t y = 0; y < blockDim.y; ++y) {
                for (uint32_t x = 0; x < blockDim.x; ++x) threads[thread++].index = {x, y, z};
            }
        }
    }

    Fibers(const Fibers &) = delete;
    Fibers &operator=(const Fibers &) = delete;

    // Fibers wait for the next launch, with their stacks: making them is most of a small one's time.
    ~Fibers() { spare = std::move(threads); }

    // Runs the kernel in every thread of the block that blockIdx names.
    void run_block() {
        for (size_t thread = 0; thread < count; ++thread) threads[thread].exchanges = 0;
        running = this;
        ended = 0;
        if (_setjmp(launcher) == 0) resume(0);
        running = nullptr;
    }

    // Lets the other threads of the block run until all have come to a barrier.
    static void wait() {
        if (running == nullptr) fail("a kernel with __syncthreads or lane_xor needs launch_with_barriers");
        if (running->ended != 0) fail(DIVERGED);
        const size_t next = (running->current + 1) % running->count;
        if (_setjmp(running->threads[running->current].place) == 0) running->resume(next);
    }

    // What thread `partner` of the block hands to its call of the same turn. Buffers alternate, so that one barrier
    // suffices: a buffer is written again only after the other one's barrier.
    static uint32_t exchange(uint32_t value, uint32_t partner) {
        static thread_local uint32_t handed[2][MAX_BLOCK];
        const uint32_t turn = running == nullptr ? 0 : running->threads[running->current].exchanges++ % 2;
        handed[turn][threadIdx.x] = value;
        wait();
        return handed[turn][partner];
    }

  private:
    static constexpr size_t STACK = 64 * 1024;
    static constexpr const char *DIVERGED = "some threads of a block ended before a barrier that others reached";

    struct Fiber {
        std::unique_ptr<char[]> stack;
        Index index;
        uint32_t exchanges;
        // Where it stopped.
        jmp_buf place;
    };

    [[noreturn]] static void fail(const char *what) {
        fprintf(stderr, "gpu_host: %s\n", what);
        abort();
    }

    // Goes on with a thread, or begins it; whoever calls has noted its own place.
    [[noreturn]] void resume(size_t thread) {
        Fiber &fiber = threads[thread];
        current = thread;
        threadIdx = fiber.index;
        if (fiber.stack) _longjmp(fiber.place, 1);
        fiber.stack.reset(new char[STACK]);
        ucontext_t context;
        getcontext(&context);
        context.uc_stack.ss_sp = fiber.stack.get();
        context.uc_stack.ss_size = STACK;
        context.uc_link = nullptr;
        makecontext(&context, run_thread, 0);
        setcontext(&context);
        fail("a thread's stack cannot be entered");
    }

    // The whole life of a fiber: a kernel once per block. The last one of a block goes back to the launcher.
    static void run_thread() {
        for (;;) {
            running->body();
            Fibers &fibers = *running;
            if (fibers.ended++ != fibers.current) fail(DIVERGED);
            if (_setjmp(fibers.threads[fibers.current].place) != 0) continue;
            if (fibers.ended < fibers.count) fibers.resume(fibers.ended);
            _longjmp(fibers.launcher, 1);
        }
    }

    static inline thread_local Fibers *running = nullptr;
    static inline thread_local std::vector<Fiber> spare;

    std::function<void()> body;
    // Those of the block, and behind them those that larger blocks had.
    std::vector<Fiber> threads;
    const size_t count;
    jmp_buf launcher;
    size_t current = 0;
    // Threads that came to their end, which is in order.
    size_t ended = 0;
};

}  // namespace gpu_host
