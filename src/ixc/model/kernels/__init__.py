"""C kernels for the CPU and the torch operators that call them."""
