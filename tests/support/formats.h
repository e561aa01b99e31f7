// Shared by the tests of all formats: GoogleTest and random weights.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "eval/random_weights.h"
