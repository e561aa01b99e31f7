# A room is one folder of src/ and one static library. Sources are found, not listed, so that adding a
# format, an architecture or a command touches its own folder only. The suffix of a file's name says
# which instruction set it needs; such files hold nothing but kernels and are entered after a run-time check.
include(CheckCXXCompilerFlag)
check_cxx_compiler_flag(-mavx2 MXGPT_X86)

# The flags of each instruction set, which are those that src/formats/isa.cpp checks for.
function(mxgpt_isa_flags)
  # What is fuzzed reads files and computes nothing, and clang's sanitizers take minutes for a file of kernels.
  set(plain $<$<BOOL:${MXGPT_FUZZ}>:-fno-sanitize=all>)
  foreach(source ${ARGN})
    if(source MATCHES "_avx2\\.cpp$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c;${plain}")
    elseif(source MATCHES "_avx512\\.cpp$")
      # g++ 12 takes the undefined registers of its own avx512fintrin.h for mistakes (GCC bug 105593).
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS
        "-mavx2;-mfma;-mf16c;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vnni;$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>;${plain}")
    endif()
  endforeach()
endfunction()

function(mxgpt_room name)
  cmake_parse_arguments(ROOM "" "" "DEPENDS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cpp)
  if(NOT MXGPT_X86)
    list(FILTER sources EXCLUDE REGEX "_avx(2|512)\\.cpp$")
  endif()
  mxgpt_cuda_sources(${name} sources)
  string(REPLACE "/" "_" target mxgpt_${name})
  if(NOT sources)
    file(WRITE ${CMAKE_BINARY_DIR}/empty.cpp "")
    set(sources ${CMAKE_BINARY_DIR}/empty.cpp)
  endif()
  add_library(${target} STATIC ${sources})
  mxgpt_isa_flags(${sources})
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wno-missing-field-initializers -Wno-psabi>)
  target_link_libraries(${target} PUBLIC ${ROOM_DEPENDS})
endfunction()
