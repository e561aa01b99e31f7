#include "cli/program.h"

int main(int argc, char** argv) {
  return mxgpt::cli::run_program(argc, argv, mxgpt::cli::kCommands);
}
