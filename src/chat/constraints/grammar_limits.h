// Static limits on schemas, regular expressions and grammars, checked before they are compiled.
//
// xgrammar's compiler recurses and unrolls, and its parser takes time that grows with ambiguity.
// These checks refuse the known causes with a message that names the fault. The work budgets of
// xgrammar_grammar.h bound what they miss.
#pragma once

#include <string_view>

#include "base/json.h"

namespace mxgpt::chat {

/// These throw Error with an empty `where` and the fault: nesting, repetition or size out of range,
/// or an unbounded repetition whose body can match the empty string, such as `(a?)*`.
void check_regex(std::string_view pattern);
/// GBNF; syntax errors are left to the compiler.
void check_grammar(std::string_view grammar);
/// Sizes in `schema`, and the patterns in it.
void check_schema(const json::value& schema);

}  // namespace mxgpt::chat
