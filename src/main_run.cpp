// The program of scripts/run.sh: `mxgpt run` alone, so that the first build compiles no server and
// no evaluation.
#include "cli/program.h"

int main(int argc, char** argv) {
  return mxgpt::cli::run_program(argc, argv, {&mxgpt::cli::kRunCommand, 1});
}
