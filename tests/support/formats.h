// Includes shared by the format tests.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "eval/random_weights.h"
