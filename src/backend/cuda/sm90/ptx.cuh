// PTX wrappers of the sm90 kernels: bulk copies, mma, and decoding of packed weights. Instructions
// that need sm_90 trap on older GPUs; is_supported_here() prevents such launches.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "backend/cuda/sm90/layout.h"

namespace mxgpt::cuda::sm90 {

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define MXGPT_SM90(...) __trap()
#else
#define MXGPT_SM90(...) asm volatile(__VA_ARGS__)
#endif

__device__ inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// Programmatic dependent launch (CUDA programming guide). Before `wait_for_previous_kernels` a
// kernel may only touch what no kernel of the step writes.
__device__ inline void let_next_kernel_start() {
  MXGPT_SM90("griddepcontrol.launch_dependents;" ::: "memory");
}
__device__ inline void wait_for_previous_kernels() {
  MXGPT_SM90("griddepcontrol.wait;" ::: "memory");
}

struct Barrier {
  uint64_t state;

  __device__ void init(int arrivals) {
    MXGPT_SM90("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(this)),
               "r"(arrivals));
  }
  __device__ void expect(int bytes) {
    MXGPT_SM90("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(this)),
               "r"(bytes)
               : "memory");
  }
  __device__ void arrive() {
    MXGPT_SM90("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(this)) : "memory");
  }
  __device__ void wait(uint32_t phase) {
    MXGPT_SM90(
        "{\n .reg .pred done;\n"
        "again:\n mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        " @!done bra again;\n}" ::"r"(shared_address(this)),
        "r"(phase)
        : "memory");
  }
};

/// After initializing barriers, before bulk copies use them.
__device__ inline void publish_barriers() {
  MXGPT_SM90("fence.mbarrier_init.release.cluster;" ::: "memory");
  MXGPT_SM90("fence.proxy.async.shared::cta;" ::: "memory");
}

/// Weights are read once a step: they are the first to leave the L2 cache.
__device__ inline uint64_t evict_first_policy() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

__device__ inline void bulk_copy(void* to_shared, const void* from, int bytes, Barrier& barrier,
                                 uint64_t policy) {
  MXGPT_SM90(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;" ::"r"(shared_address(to_shared)),
      "l"(from), "r"(bytes), "r"(shared_address(&barrier)), "l"(policy)
      : "memory");
}
__device__ inline void bulk_copy(void* to_shared, const void* from, int bytes, Barrier& barrier) {
  MXGPT_SM90(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared_address(to_shared)),
      "l"(from), "r"(bytes), "r"(shared_address(&barrier))
      : "memory");
}

/// D = A · B + C. A: two rows (r, r + 8) of a lane; B: one column; C, D: rows r, r + 8, columns
/// 2t, 2t + 1.
__device__ inline void mma_bf16(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ inline void mma_f16(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ inline void mma_s8(int d[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                              uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/// Eight E2M1 (nibble_bit) to four pairs of bfloat16, exactly, but for a factor of 2^126: the
/// exponent lacks its bias.
__device__ inline void spread_e2m1(uint32_t word, uint32_t out[4]) {
  constexpr uint32_t kValue = 0x81c081c0, kUpper = 0x81808180, kLowest = 0x00400040;
  out[0] = word & kValue;
  out[1] = __funnelshift_r(word, word, 10) & kValue;
  out[2] = __funnelshift_r(word, word, 4) & kValue;
  out[3] = (__funnelshift_r(word, word, 6) & kUpper) | (__funnelshift_r(word, word, 30) & kLowest);
}
/// The same with its bias.
__device__ inline void unpack_e2m1(uint32_t word, uint32_t out[4]) {
  spread_e2m1(word, out);
  // Times 2^126, fused with adding -0, since sm_80 has no other product and it keeps the sign of
  // zero.
  for (int i = 0; i < 4; ++i)
    asm("fma.rn.bf16x2 %0, %0, %1, %2;" : "+r"(out[i]) : "r"(0x7e807e80u), "r"(0x80008000u));
}

/// The value of an E8M0 scale; infinity instead of NaN (see pack.cu).
__device__ inline float e8m0(uint32_t scale) {
  return __uint_as_float(max(scale << 23, 0x00400000u));
}

__device__ inline uint32_t bits(__nv_bfloat162 v) {
  return reinterpret_cast<uint32_t&>(v);
}

/// x = hi + lo to 16 bits of mantissa.
struct Split {
  uint32_t hi, lo;  ///< pairs of bfloat16
};
__device__ inline Split split_bf16(float x, float y) {
  const __nv_bfloat162 hi = __floats2bfloat162_rn(x, y);
  const float2 back = __bfloat1622float2(hi);
  return {bits(hi), bits(__floats2bfloat162_rn(x - back.x, y - back.y))};
}

}  // namespace mxgpt::cuda::sm90
