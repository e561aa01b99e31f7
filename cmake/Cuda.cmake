# The CUDA backend is built with -DMXGPT_CUDA=ON, or where this machine has an NVIDIA GPU and nvcc; elsewhere
# src/backend/cuda/stub.cpp takes its place.
set(MXGPT_CUDA AUTO CACHE STRING "Build the CUDA backend: ON, OFF, or AUTO (if this machine has a GPU and nvcc)")
# 80 A100, 86 and 89 GeForce 30 and 40, 90a H100 and H200, 100 B200, 120 GeForce 50. One is enough to see that
# it compiles; the preset `cuda` has all, and `native` is the GPU of this machine.
set(CMAKE_CUDA_ARCHITECTURES 90a CACHE STRING "GPU architectures to compile for")

# `native` is compute capability 9.0 on an H100 or H200, whose wgmma instructions need the target 90a.
if(CMAKE_CUDA_ARCHITECTURES STREQUAL native)
  execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader OUTPUT_VARIABLE capability ERROR_QUIET)
  if(capability MATCHES "^9\\.0")
    set(CMAKE_CUDA_ARCHITECTURES 90a CACHE STRING "GPU architectures to compile for" FORCE)
  endif()
endif()

set(MXGPT_WITH_CUDA OFF)
if(MXGPT_CUDA STREQUAL AUTO AND NOT EXISTS /dev/nvidiactl)
  set(wanted OFF)
else()
  set(wanted ${MXGPT_CUDA})
endif()
if(wanted AND NOT CMAKE_CUDA_COMPILER)
  find_program(MXGPT_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(MXGPT_NVCC)
    set(CMAKE_CUDA_COMPILER ${MXGPT_NVCC})
  elseif(NOT wanted STREQUAL AUTO)
    message(FATAL_ERROR "MXGPT_CUDA is ON, but nvcc was not found. Install CUDA 12.4 or newer, or set CUDA_HOME")
  endif()
endif()
if(wanted AND CMAKE_CUDA_COMPILER)
  set(MXGPT_WITH_CUDA ON)
  set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
  enable_language(CUDA)
  set(CMAKE_CUDA_FLAGS_RELWITHDEBINFO "-O3 -DNDEBUG -lineinfo")
endif()

# Adds a module's .cu files to its sources, or leaves out the files of backend/cuda that call CUDA.
function(mxgpt_cuda_sources name list)
  set(found ${${list}})
  if(MXGPT_WITH_CUDA)
    mxgpt_module_sources(device ${name} cu)
    list(FILTER found EXCLUDE REGEX "/backend/cuda/stub\\.cpp$")
    list(APPEND found ${device})
    foreach(source ${device})
      # Kernels call the formats' constexpr definitions. Without contraction a kernel computes what is written, so
      # that two kernels that must give the same bits do; the sm90 kernels contract freely.
      set(options -std=c++20 --expt-relaxed-constexpr)
      if(NOT source MATCHES "/backend/cuda/sm90/")
        list(APPEND options --fmad=false)
      elseif(CMAKE_CUDA_ARCHITECTURES MATCHES "90a")
        # wgmma exists on sm_90a only, which host code cannot find out by itself.
        list(APPEND options -DMXGPT_SM90A)
      endif()
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${options}")
    endforeach()
  else()
    # Memory is planned without a GPU, too.
    list(FILTER found EXCLUDE REGEX "/backend/cuda/.*\\.cpp$")
    if(name STREQUAL backend)
      foreach(source stub measure_backend weight_repack generic/workspace sm90/support sm90/workspace)
        list(APPEND found ${CMAKE_SOURCE_DIR}/src/backend/cuda/${source}.cpp)
      endforeach()
    endif()
  endif()
  set(${list} ${found} PARENT_SCOPE)
endfunction()
