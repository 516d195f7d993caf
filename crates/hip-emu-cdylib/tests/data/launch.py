"""Loads the library named first, and on it the code object named second; launches a kernel in both ways."""

import ctypes
import struct
import sys
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_void_p

INVALID_VALUE, OUT_OF_MEMORY, INVALID_IMAGE, INVALID_HANDLE, NOT_FOUND, ILLEGAL_ADDRESS = 1, 2, 200, 400, 500, 700
TO_DEVICE, TO_HOST = 1, 2
LENGTH = 300

hip = ctypes.CDLL(sys.argv[1])
hip.hipGetErrorName.restype = c_char_p
for name, arguments in {
    "hipMalloc": [POINTER(c_void_p), c_size_t],
    "hipFree": [c_void_p],
    "hipMemcpy": [c_void_p, c_void_p, c_size_t, c_int],
    "hipMemset": [c_void_p, c_int, c_size_t],
    "hipModuleLoadData": [POINTER(c_void_p), c_char_p],
    "hipModuleGetFunction": [POINTER(c_void_p), c_void_p, c_char_p],
    "hipModuleUnload": [c_void_p],
    "hipModuleLaunchKernel": [c_void_p] + [c_uint] * 7 + [c_void_p] * 3,
}.items():
    getattr(hip, name).argtypes = arguments


def call(name, *arguments, code=0):
    found = getattr(hip, name)(*arguments)
    assert found == code, f"{name}: {hip.hipGetErrorName(found).decode()}, expected {code}"


def handle(name, *arguments):
    place = c_void_p()
    call(name, byref(place), *arguments)
    return place


def device(values):
    address = handle("hipMalloc", ctypes.sizeof(values))
    call("hipMemcpy", address, values, ctypes.sizeof(values), TO_DEVICE)
    return address


def launch(function, arguments=None, extra=None, code=0):
    groups = (LENGTH + 255) // 256
    call("hipModuleLaunchKernel", function, groups, 1, 1, 256, 1, 1, 0, None, arguments, extra, code=code)


properties = ctypes.create_string_buffer(1472)
call("hipGetDevicePropertiesR0600", properties, 0)
assert properties.raw[1160:].startswith(b"gfx1100\0"), properties.raw[1160:1176]
assert struct.unpack_from("i", properties, 308) == (32,)
value = c_int()
call("hipDeviceGetAttribute", byref(value), 87, 0)
assert value.value == 32

with open(sys.argv[2], "rb") as file:
    image = file.read()
module = handle("hipModuleLoadData", image)
function = handle("hipModuleGetFunction", module, b"axpy_f32")
call("hipModuleGetFunction", byref(c_void_p()), module, b"nothing", code=NOT_FOUND)
call("hipModuleLoadData", byref(c_void_p()), b"\x7fELF" + bytes(60), code=INVALID_IMAGE)

# Multiples of 1/8 below 2^9: every product and sum is exact in binary32.
x = [i / 8 for i in range(LENGTH)]
y = [100 - i for i in range(LENGTH)]
device_x, device_y = device((c_float * LENGTH)(*x)), device((c_float * LENGTH)(*y))

values = [c_void_p(device_y.value), c_void_p(device_x.value), c_float(2.0), c_uint(LENGTH)]
pointers = (c_void_p * 4)(*[ctypes.addressof(value) for value in values])
launch(function, arguments=pointers)

block = ctypes.create_string_buffer(struct.pack("QQfI", device_y.value, device_x.value, 2.0, LENGTH), 24)
size = c_size_t(24)
extra = (c_void_p * 5)(1, ctypes.addressof(block), 2, ctypes.addressof(size), 3)
launch(function, extra=extra)

result = (c_float * LENGTH)()
call("hipMemcpy", result, device_y, ctypes.sizeof(result), TO_HOST)
assert list(result) == [b + 4 * a for a, b in zip(x, y)], list(result)

launch(function, code=INVALID_VALUE)
size.value = 20
launch(function, extra=extra, code=INVALID_VALUE)
values[3].value = LENGTH + 1
launch(function, arguments=pointers, code=ILLEGAL_ADDRESS)
assert hip.hipGetLastError() == ILLEGAL_ADDRESS and hip.hipGetLastError() == 0

call("hipMemset", device_y, 0, ctypes.sizeof(result))
call("hipMemcpy", result, device_y, ctypes.sizeof(result), TO_HOST)
assert not any(result)
call("hipMemcpy", result, device_y, ctypes.sizeof(result) + 1, TO_HOST, code=INVALID_VALUE)
call("hipMalloc", byref(c_void_p()), 1 << 60, code=OUT_OF_MEMORY)

call("hipModuleUnload", module)
call("hipModuleUnload", module, code=INVALID_HANDLE)
launch(function, arguments=pointers, code=INVALID_HANDLE)
call("hipModuleGetFunction", byref(c_void_p()), c_void_p(0x1234), b"axpy_f32", code=INVALID_HANDLE)
call("hipFree", device_x)
call("hipFree", device_x, code=INVALID_VALUE)
call("hipFree", device_y)
call("hipFree", None)
print("as computed here")
