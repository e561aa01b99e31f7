# xgrammar: JSON schemas, regular expressions and grammars as masks over tokens. No distribution packages its C++
# library, so scripts/setup.sh unpacks the source package, pinned by its hash, into build/xgrammar, and it is built
# here as it is, without its Python bindings.
set(xgrammar ${CMAKE_SOURCE_DIR}/build/xgrammar)
if(NOT EXISTS ${xgrammar}/include/xgrammar/xgrammar.h)
  message(FATAL_ERROR "xgrammar is missing: run scripts/setup.sh")
endif()
file(GLOB_RECURSE sources ${xgrammar}/cpp/*.cc)
list(FILTER sources EXCLUDE REGEX "/cpp/tvm_ffi/")
add_library(xgrammar STATIC ${sources})
target_compile_features(xgrammar PUBLIC cxx_std_17)
target_compile_definitions(xgrammar PUBLIC XGRAMMAR_ENABLE_CPPTRACE=0 XGRAMMAR_ENABLE_INTERNAL_CHECK=0)
target_compile_options(xgrammar PRIVATE -w)
target_include_directories(xgrammar SYSTEM PUBLIC ${xgrammar}/include ${xgrammar}/3rdparty/dlpack/include
  ${xgrammar}/3rdparty/picojson)
