// How the CPU backend's threads wait.
#pragma once

namespace mxgpt::cpu {

/// To be called first in main. Threads that wait for each other spin; on a busy machine, where one
/// of them may be off its core, they should sleep instead, and soon. libgomp reads how soon from
/// its environment before main begins, so this sets GOMP_SPINCOUNT and starts the program anew,
/// unless the user has set it or OMP_WAIT_POLICY.
void limit_spinning(char** argv);

}  // namespace mxgpt::cpu
