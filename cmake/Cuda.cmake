# The CUDA backend is built where nvcc is found; elsewhere its place is taken by src/backend/cuda/stub.cpp.
set(MXGPT_CUDA AUTO CACHE STRING "Build the CUDA backend: ON, OFF, or AUTO, that is if nvcc is found")
# 80 A100, 86 and 89 GeForce 30 and 40, 90a H100 and H200, 100 B200, 120 GeForce 50. One is enough to see that
# it compiles; the preset `cuda` has all, and `native` is that of the machine at hand.
set(CMAKE_CUDA_ARCHITECTURES 90a CACHE STRING "Which GPUs to compile for")

if(MXGPT_CUDA AND NOT CMAKE_CUDA_COMPILER)
  find_program(MXGPT_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(MXGPT_NVCC)
    set(CMAKE_CUDA_COMPILER ${MXGPT_NVCC})
  elseif(NOT MXGPT_CUDA STREQUAL AUTO)
    message(FATAL_ERROR "MXGPT_CUDA is ON, but there is no nvcc; install CUDA 12.4 or newer, or set CUDA_HOME")
  endif()
endif()
set(MXGPT_WITH_CUDA OFF)
if(MXGPT_CUDA AND CMAKE_CUDA_COMPILER)
  set(MXGPT_WITH_CUDA ON)
  set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
  enable_language(CUDA)
  set(CMAKE_CUDA_FLAGS_RELWITHDEBINFO "-O3 -DNDEBUG -lineinfo")
endif()

# Adds the .cu files of a room to its sources, or leaves out of backend/cuda what calls CUDA.
function(mxgpt_cuda_sources name list)
  set(found ${${list}})
  if(MXGPT_WITH_CUDA)
    file(GLOB_RECURSE device CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cu)
    list(FILTER found EXCLUDE REGEX "/backend/cuda/stub\\.cpp$")
    list(APPEND found ${device})
    foreach(source ${device})
      # Formats' definitions are constexpr, and called from kernels. Without contraction a kernel computes what is
      # written, so two kernels that are to give the same bits do; the fast ones round as they like.
      set(options -std=c++20 --expt-relaxed-constexpr)
      if(NOT source MATCHES "/backend/cuda/fast/")
        list(APPEND options --fmad=false)
      endif()
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${options}")
    endforeach()
  else()
    list(FILTER found EXCLUDE REGEX "/backend/cuda/.*\\.cpp$")
    if(name STREQUAL backend)
      # Memory is planned anywhere.
      foreach(source stub layouts workspace)
        list(APPEND found ${CMAKE_SOURCE_DIR}/src/backend/cuda/${source}.cpp)
      endforeach()
    endif()
  endif()
  set(${list} ${found} PARENT_SCOPE)
endfunction()
