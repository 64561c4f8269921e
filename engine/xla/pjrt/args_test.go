package pjrt

import (
	"strings"
	"testing"
	"unsafe"
)

// TestLayout holds the structs against the sizes that the C header of version 0.83 gives them. A struct ends, in C's
// reckoning, with its last field; here it is filled up to the alignment.
func TestLayout(t *testing.T) {
	for _, c := range []struct {
		name       string
		have, want uintptr
	}{
		{"Error_Destroy_Args", unsafe.Sizeof(errorDestroyArgs{}), 24},
		{"Error_Message_Args", unsafe.Sizeof(errorMessageArgs{}), 40},
		{"Error_GetCode_Args", unsafe.Sizeof(errorCodeArgs{}), 28},
		{"Plugin_Initialize_Args", unsafe.Sizeof(pluginInitializeArgs{}), 16},
		{"NamedValue", unsafe.Sizeof(namedValue{}), 56},
		{"Event_Await_Args", unsafe.Sizeof(eventArgs{}), 24},
		{"Client_Create_Args", unsafe.Sizeof(clientCreateArgs{}), 88},
		{"Client_Destroy_Args", unsafe.Sizeof(clientArgs{}), 24},
		{"Client_AddressableDevices_Args", unsafe.Sizeof(clientListArgs{}), 40},
		{"Program", unsafe.Sizeof(program{}), 48},
		{"Client_Compile_Args", unsafe.Sizeof(compileArgs{}), 56},
		{"Client_BufferFromHostBuffer_Args", unsafe.Sizeof(fromHostArgs{}), 120},
		{"Device_GetDescription_Args", unsafe.Sizeof(describeArgs{}), 32},
		{"DeviceDescription_Id_Args", unsafe.Sizeof(descriptionIDArgs{}), 28},
		{"DeviceDescription_Kind_Args", unsafe.Sizeof(descriptionTextArgs{}), 40},
		{"Device_MemoryStats_Args", unsafe.Sizeof(memoryStatsArgs{}), 185},
		{"Executable_Destroy_Args", unsafe.Sizeof(executableArgs{}), 24},
		{"Executable_NumOutputs_Args", unsafe.Sizeof(executableOfArgs{}), 32},
		{"LoadedExecutable_AddressableDevices_Args", unsafe.Sizeof(executableListArgs{}), 40},
		{"Executable_GetCompiledMemoryStats_Args", unsafe.Sizeof(memoryOfArgs{}), 112},
		{"Executable_Serialize_Args", unsafe.Sizeof(serializeArgs{}), 56},
		{"Executable_DeserializeAndLoad_Args", unsafe.Sizeof(deserializeArgs{}), 64},
		{"ExecuteOptions", unsafe.Sizeof(executeOptions{}), 112},
		{"LoadedExecutable_Execute_Args", unsafe.Sizeof(executeArgs{}), 80},
		{"Buffer_Destroy_Args", unsafe.Sizeof(bufferArgs{}), 24},
		{"Buffer_OnDeviceSizeInBytes_Args", unsafe.Sizeof(bufferOfArgs{}), 32},
		{"Buffer_ToHostBuffer_Args", unsafe.Sizeof(toHostArgs{}), 56},
		{"KeyValueGetCallback_Args", unsafe.Sizeof(getCallbackArgs{}), 80},
		{"KeyValueTryGetCallback_Args", unsafe.Sizeof(tryGetCallbackArgs{}), 72},
		{"KeyValuePutCallback_Args", unsafe.Sizeof(putCallbackArgs{}), 64},
		{"FFI_Register_Handler_Args", unsafe.Sizeof(registerArgs{}), 52},
		{"offset of MemoryStats.bytes_limit", unsafe.Offsetof(memoryStatsArgs{}.limit), 80},
		{"offset of Api.GetCompiledMemoryStats", headBytes + uintptr(fnExecutableGetCompiledMemoryStats)*8, 808},
	} {
		if want := (c.want + 7) / 8 * 8; c.have != want {
			t.Errorf("%s: has %d bytes, want %d", c.name, c.have, want)
		}
	}
}

func TestCheck(t *testing.T) {
	table := func(major int32, size uintptr) *apiTable {
		a := &apiTable{size: size}
		a.version.major, a.version.minor = major, 7
		return a
	}
	full := unsafe.Sizeof(apiTable{})
	if err := check(table(0, full)); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		api  *apiTable
		want string
	}{{table(1, full), "has version 1.7, want 0.x"}, {table(0, full-8), "install a newer one"}} {
		if err := check(c.api); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}
