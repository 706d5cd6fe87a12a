/* The C interface of the Tessera runtime: load a package, run its programs on a CPU or an NVIDIA GPU.
 *
 * Every function that can fail returns a status; after a failure `tessera_error_message` and
 * `tessera_error_hint` say what went wrong and what to do about it, on the thread that called.
 * Handles are opaque. A runtime may be used by any number of threads at once, a tensor by any
 * number of readers. C++ programs include <tessera/runtime.h> instead, which wraps all this.
 */
#ifndef TESSERA_C_API_H
#define TESSERA_C_API_H

#include <stddef.h>
#include <stdint.h>

#if defined(TESSERA_BUILDING) && defined(__GNUC__)
#define TESSERA_API __attribute__((visibility("default")))
#else
#define TESSERA_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The major version of this interface: a library of another major is another library. */
#define TESSERA_ABI_VERSION 1

typedef enum tessera_status {
    TESSERA_OK = 0,
    TESSERA_INPUT_ERROR = 1,     /* inputs that do not match a program, or a wrong argument */
    TESSERA_PACKAGE_ERROR = 2,   /* a package that cannot be read, or is of another major version */
    TESSERA_INTEGRITY_ERROR = 3, /* a package whose bytes are not what it says */
    TESSERA_PROGRAM_ERROR = 4,   /* a program document that is malformed */
    TESSERA_DEVICE_ERROR = 5,    /* a device that is absent or failed, or that has no code here */
    TESSERA_MEMORY_ERROR = 6,    /* no memory left on the host or on the device */
    TESSERA_INTERNAL_ERROR = 7   /* an error that this library did not expect */
} tessera_status;

typedef enum tessera_dtype {
    TESSERA_F64 = 0,
    TESSERA_F32 = 1,
    TESSERA_TF32 = 2, /* float32 in memory */
    TESSERA_F16 = 3,
    TESSERA_BF16 = 4,
    TESSERA_F8E4M3 = 5,
    TESSERA_F8E5M2 = 6,
    TESSERA_I64 = 7,
    TESSERA_I32 = 8,
    TESSERA_I16 = 9,
    TESSERA_I8 = 10,
    TESSERA_U8 = 11,
    TESSERA_BOOL = 12, /* one byte, 0 or 1 */
    TESSERA_U64 = 13,
    TESSERA_U32 = 14,
    TESSERA_U16 = 15
} tessera_dtype;

typedef struct tessera_runtime tessera_runtime;
typedef struct tessera_tensor tessera_tensor;

/* An input or output of a program. The pointers live as long as the runtime. */
typedef struct tessera_port {
    const char *name;
    tessera_dtype dtype;
    int32_t is_scalar;  /* 1: a number, given as a tensor of one element */
    int64_t rank;       /* number of axes */
    const char *shape;  /* for people: "(batch, 64)" */
    const int64_t *sizes; /* size of each axis; -1 where it depends on the inputs */
} tessera_port;

/* ---- errors ---- */

/* What the last failed call of this thread reported; "" if none failed. Never null. */
TESSERA_API const char *tessera_error_message(void);
/* What to do about it; "" where there is nothing to suggest. Never null. */
TESSERA_API const char *tessera_error_hint(void);
/* Version of the library, such as "0.1.0". */
TESSERA_API const char *tessera_version(void);
/* TESSERA_ABI_VERSION of the library that was built. */
TESSERA_API int32_t tessera_abi_version(void);

/* ---- tensors ---- */

/* A tensor with memory of its own: a copy of `data`, or zeros where `data` is null. C order. */
TESSERA_API tessera_status tessera_tensor_create(tessera_dtype dtype, int64_t rank, const int64_t *shape,
                                                 const void *data, tessera_tensor **tensor);
/* A tensor over the caller's memory, which is not copied. `release(context)` is called, unless
 * null, once nobody needs the memory; on failure it is not called. */
TESSERA_API tessera_status tessera_tensor_wrap(tessera_dtype dtype, int64_t rank, const int64_t *shape,
                                               void *data, void (*release)(void *context), void *context,
                                               tessera_tensor **tensor);
/* The same values as another dtype. Floats round to nearest; what a dtype cannot hold is refused. */
TESSERA_API tessera_status tessera_tensor_convert(const tessera_tensor *tensor, tessera_dtype dtype,
                                                  tessera_tensor **converted);
TESSERA_API tessera_dtype tessera_tensor_dtype(const tessera_tensor *tensor);
TESSERA_API int64_t tessera_tensor_rank(const tessera_tensor *tensor);
/* `rank` sizes, as long as the tensor lives. */
TESSERA_API const int64_t *tessera_tensor_shape(const tessera_tensor *tensor);
/* The elements in C order, in host memory. */
TESSERA_API void *tessera_tensor_data(const tessera_tensor *tensor);
TESSERA_API int64_t tessera_tensor_bytes(const tessera_tensor *tensor);
TESSERA_API void tessera_tensor_free(tessera_tensor *tensor);
/* Bytes of one element; 0 for no dtype. */
TESSERA_API int64_t tessera_dtype_size(tessera_dtype dtype);
/* Short name, such as "bf16"; "" for no dtype. */
TESSERA_API const char *tessera_dtype_name(tessera_dtype dtype);

/* ---- runtimes ---- */

/* The package in a .tsc, .tsp or .tsd file, or in a folder where one was unpacked. Structure, manifest
 * and programs are checked; kernels and weights when they are loaded. */
TESSERA_API tessera_status tessera_runtime_load(const char *path, tessera_runtime **runtime);
/* Check every byte of the package against its digests. */
TESSERA_API tessera_status tessera_runtime_verify(tessera_runtime *runtime);
/* Load kernels and weights on a device: "cpu", "cuda:0", or "auto" (also null): the current GPU if
 * there is one and the package has code for it, else the CPU. Again: another device. */
TESSERA_API tessera_status tessera_runtime_initialize(tessera_runtime *runtime, const char *device);
/* "cpu", "cuda:0"; "" before `tessera_runtime_initialize`. */
TESSERA_API tessera_status tessera_runtime_device(tessera_runtime *runtime, const char **device);
/* Run a program once.
 *
 * program: its name; null where there is one program, or one called "forward".
 * inputs: in the program's order. Floats of another width are converted.
 * outputs: takes `output_capacity` handles at most, which the caller frees.
 * output_count: how many there are. Nothing is run if they are more than fit.
 */
TESSERA_API tessera_status tessera_runtime_execute(tessera_runtime *runtime, const char *program,
                                                   const tessera_tensor *const *inputs, size_t input_count,
                                                   tessera_tensor **outputs, size_t output_capacity,
                                                   size_t *output_count);
TESSERA_API void tessera_runtime_free(tessera_runtime *runtime);

/* ---- what is in a package ---- */

TESSERA_API size_t tessera_runtime_program_count(const tessera_runtime *runtime);
/* Null beyond the last. */
TESSERA_API const char *tessera_runtime_program_name(const tessera_runtime *runtime, size_t index);
TESSERA_API tessera_status tessera_runtime_input_count(const tessera_runtime *runtime, const char *program,
                                                       size_t *count);
TESSERA_API tessera_status tessera_runtime_output_count(const tessera_runtime *runtime, const char *program,
                                                        size_t *count);
TESSERA_API tessera_status tessera_runtime_input(const tessera_runtime *runtime, const char *program,
                                                 size_t index, tessera_port *port);
TESSERA_API tessera_status tessera_runtime_output(const tessera_runtime *runtime, const char *program,
                                                  size_t index, tessera_port *port);

#ifdef __cplusplus
}
#endif

#endif
