// The sample kernels use the compiler's own _Float16: nothing is needed here.
#pragma once
