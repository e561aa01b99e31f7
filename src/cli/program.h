// The frame of a program: options, commands, errors as one line.
#pragma once

#include <span>

#include "cli/command.h"

namespace mxgpt::cli {

/// Parses the command line, runs the command it names and returns the exit code.
int run_program(int argc, char** argv, std::span<const Command> commands);

}  // namespace mxgpt::cli
