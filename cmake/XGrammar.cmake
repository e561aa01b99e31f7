# xgrammar: JSON schemas, regular expressions and grammars as masks over tokens. No distribution packages its C++
# library, so scripts/setup.sh unpacks the source package, pinned by its hash, into build/xgrammar. It is built here
# without its Python bindings, and with one change.
set(xgrammar ${CMAKE_SOURCE_DIR}/build/xgrammar)
if(NOT EXISTS ${xgrammar}/include/xgrammar/xgrammar.h)
  message(FATAL_ERROR "xgrammar is missing: run scripts/setup.sh")
endif()
# xgrammar's parser cannot be interrupted, and takes minutes per mask for an ambiguous grammar. The copy that is
# built reports its work to mxgpt_xgrammar_work(), which src/chat/constraints/xgrammar_grammar.cpp defines and which
# throws once a budget is spent.
file(READ ${xgrammar}/cpp/earley_parser.cc parser)
function(mxgpt_insert_after anchor code)
  string(FIND "${parser}" "${anchor}" found)
  if(found EQUAL -1)
    message(FATAL_ERROR "xgrammar's earley_parser.cc has changed; it no longer contains:\n${anchor}")
  endif()
  string(REPLACE "${anchor}" "${anchor}${code}" parser "${parser}")
  set(parser "${parser}" PARENT_SCOPE)
endfunction()
mxgpt_insert_after("#include \"xgrammar/grammar.h\"\n"
  "// Modified by mxgpt (cmake/XGrammar.cmake): reports its work.\nextern \"C\" void mxgpt_xgrammar_work(size_t work, size_t states);\n")
mxgpt_insert_after("EarleyParser::Predict(\n    const ParserState& state, bool debug_print\n) {\n"
  "  mxgpt_xgrammar_work(1, tmp_process_state_queue_.size() + tmp_states_to_be_added_.size());\n")
mxgpt_insert_after("  // Check all the possible parent states.\n  const auto& parent_states_map = rule_id_to_completable_states_[state.rule_start_pos];\n"
  "  mxgpt_xgrammar_work(parent_states_map.size(), 0);\n")
mxgpt_insert_after("const auto in_vec = [&](const ParserState& state_) {\n"
  "  mxgpt_xgrammar_work(rule_id_to_completable_states_.Back().size(), 0);\n")
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/xgrammar/earley_parser.cc CONTENT "${parser}" @ONLY)

file(GLOB_RECURSE sources ${xgrammar}/cpp/*.cc)
list(FILTER sources EXCLUDE REGEX "/cpp/(tvm_ffi/|earley_parser\\.cc$)")
list(APPEND sources ${CMAKE_BINARY_DIR}/xgrammar/earley_parser.cc)
add_library(xgrammar STATIC ${sources})
target_compile_features(xgrammar PUBLIC cxx_std_17)
target_compile_definitions(xgrammar PUBLIC XGRAMMAR_ENABLE_CPPTRACE=0 XGRAMMAR_ENABLE_INTERNAL_CHECK=0)
target_compile_options(xgrammar PRIVATE -w -O2 -g0)
target_include_directories(xgrammar PRIVATE ${xgrammar}/cpp)  # the changed copy lies elsewhere
target_include_directories(xgrammar SYSTEM PUBLIC ${xgrammar}/include ${xgrammar}/3rdparty/dlpack/include
  ${xgrammar}/3rdparty/picojson)
