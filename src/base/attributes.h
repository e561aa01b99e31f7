// Function attributes.
#pragma once

/// For functions in headers that files of several instruction sets include. The linker keeps one
/// copy of an ordinary inline function, possibly the one compiled for a newer processor. A function
/// that is always inlined has no copy.
#define MXGPT_ALWAYS_INLINE [[gnu::always_inline]] inline
