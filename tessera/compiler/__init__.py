"""From graphs and kernels to machine code: passes, generated Numba kernels, PTX, cubins, native CPU code."""
