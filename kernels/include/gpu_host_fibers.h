// The threads of one block as fibers: each has a stack of its own and runs until its next barrier, then the next thread
// runs, in a round (POSIX ucontext). All run in the one thread of the host that launched, so what is thread-local is shared
// by the block; threadIdx is set anew at each switch. Only gpu_host.h includes this.
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
        : body(std::move(thread_body)), threads(blockDim.x * blockDim.y * blockDim.z) {
        for (Fiber &fiber : threads) fiber.stack.reset(new char[STACK]);
    }

    // Runs the kernel in every thread of the block that blockIdx names.
    void run_block() {
        size_t thread = 0;
        for (uint32_t z = 0; z < blockDim.z; ++z) {
            for (uint32_t y = 0; y < blockDim.y; ++y) {
                for (uint32_t x = 0; x < blockDim.x; ++x) prepare(threads[thread++], {x, y, z});
            }
        }
        running = this;
        ended = 0;
        current = 0;
        threadIdx = threads[0].index;
        threads[0].started = true;
        swapcontext(&launcher, &threads[0].context);
        running = nullptr;
    }

    // Lets the other threads of the block run until all have come to a barrier.
    static void wait() {
        if (running == nullptr) fail("a kernel with __syncthreads or lane_xor needs launch_with_barriers");
        if (running->ended != 0) fail(DIVERGED);
        if (_setjmp(running->threads[running->current].place) != 0) return;
        running->enter_thread((running->current + 1) % running->threads.size());
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
        // Where the fiber starts, and where it goes on: a jump makes no call of the system, as a change of context does.
        ucontext_t context;
        jmp_buf place;
        bool started;
        std::unique_ptr<char[]> stack;
        Index index;
        uint32_t exchanges;
    };

    [[noreturn]] static void fail(const char *what) {
        fprintf(stderr, "gpu_host: %s\n", what);
        abort();
    }

    void prepare(Fiber &fiber, Index index) {
        fiber.index = index;
        fiber.exchanges = 0;
        fiber.started = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = &launcher;
        makecontext(&fiber.context, run_thread, 0);
    }

    // Leaves the current thread for another one.
    [[noreturn]] void enter_thread(size_t thread) {
        current = thread;
        Fiber &fiber = threads[thread];
        threadIdx = fiber.index;
        if (fiber.started) _longjmp(fiber.place, 1);
        fiber.started = true;
        setcontext(&fiber.context);
        abort();
    }

    // The whole life of a thread. The last one of a block goes back to the launcher.
    static void run_thread() {
        Fibers &fibers = *running;
        fibers.body();
        if (fibers.ended++ != fibers.current) fail(DIVERGED);
        if (fibers.ended < fibers.threads.size()) fibers.enter_thread(fibers.ended);
    }

    static inline thread_local Fibers *running = nullptr;

    std::function<void()> body;
    std::vector<Fiber> threads;
    ucontext_t launcher;
    size_t current = 0;
    // Threads that came to their end, which is in order.
    size_t ended = 0;
};

}  // namespace gpu_host
