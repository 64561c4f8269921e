package pjrt

// function is a place in PJRT_Api's table of functions.
type function int

// The functions that are called, at their places in the table; it only ever grows at its end.
const (
	fnErrorDestroy                       function = 0
	fnErrorMessage                       function = 1
	fnErrorGetCode                       function = 2
	fnPluginInitialize                   function = 3
	fnPluginAttributes                   function = 4
	fnEventDestroy                       function = 5
	fnEventAwait                         function = 8
	fnClientCreate                       function = 10
	fnClientDestroy                      function = 11
	fnClientPlatformName                 function = 12
	fnClientProcessIndex                 function = 13
	fnClientPlatformVersion              function = 14
	fnClientDevices                      function = 15
	fnClientAddressableDevices           function = 16
	fnClientCompile                      function = 20
	fnClientBufferFromHostBuffer         function = 22
	fnDeviceDescriptionId                function = 23
	fnDeviceDescriptionKind              function = 26
	fnDeviceGetDescription               function = 29
	fnDeviceMemoryStats                  function = 34
	fnExecutableDestroy                  function = 40
	fnExecutableNumOutputs               function = 44
	fnExecutableOptimizedProgram         function = 48
	fnExecutableSerialize                function = 49
	fnLoadedExecutableDestroy            function = 50
	fnLoadedExecutableGetExecutable      function = 51
	fnLoadedExecutableAddressableDevices function = 52
	fnLoadedExecutableExecute            function = 55
	fnExecutableDeserializeAndLoad       function = 56
	fnBufferDestroy                      function = 58
	fnBufferElementType                  function = 59
	fnBufferDimensions                   function = 60
	fnBufferOnDeviceSizeInBytes          function = 64
	fnBufferToHostBuffer                 function = 70
	fnBufferReadyEvent                   function = 72
	fnExecutableGetCompiledMemoryStats   function = 96
)
