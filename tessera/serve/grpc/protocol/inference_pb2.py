"""Messages of inference.proto. Made by scripts/make_grpc_protocol.py; do not edit."""

from google.protobuf import descriptor_pool, message_factory

_FILE = descriptor_pool.DescriptorPool().AddSerializedFile(
    b'\n\x0finference.proto\x12\tinference"\x13\n\x11ServerLiveRequest"(\n\x12ServerL'
    b'iveResponse\x12\x12\n\x04live\x18\x01 \x01(\x08R\x04live"\x14\n\x12ServerReadyRequest"+\n\x13Ser'
    b'verReadyResponse\x12\x14\n\x05ready\x18\x01 \x01(\x08R\x05ready"A\n\x11ModelReadyRequest\x12'
    b'\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version"*\n\x12ModelReadyR'
    b'esponse\x12\x14\n\x05ready\x18\x01 \x01(\x08R\x05ready"\x17\n\x15ServerMetadataRequest"f\n\x16Se'
    b'rverMetadataResponse\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07v'
    b'ersion\x12\x1e\n\nextensions\x18\x03 \x03(\tR\nextensions"D\n\x14ModelMetadataReque'
    b'st\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version"\xcf\x02\n\x15ModelMe'
    b'tadataResponse\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1a\n\x08versions\x18\x02 \x03(\tR\x08versio'
    b'ns\x12\x1a\n\x08platform\x18\x03 \x01(\tR\x08platform\x12G\n\x06inputs\x18\x04 \x03(\x0b2/.inference.M'
    b'odelMetadataResponse.TensorMetadataR\x06inputs\x12I\n\x07outputs\x18\x05 \x03(\x0b'
    b'2/.inference.ModelMetadataResponse.TensorMetadataR\x07outputs\x1aV'
    b'\n\x0eTensorMetadata\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1a\n\x08datatype\x18\x02 \x01(\tR\x08data'
    b'type\x12\x14\n\x05shape\x18\x03 \x03(\x03R\x05shape"\xd7\x01\n\x0eInferParameter\x12\x1f\n\nbool_param\x18'
    b'\x01 \x01(\x08H\x00R\tboolParam\x12!\n\x0bint64_param\x18\x02 \x01(\x03H\x00R\nint64Param\x12#\n\x0cstr'
    b'ing_param\x18\x03 \x01(\tH\x00R\x0bstringParam\x12#\n\x0cdouble_param\x18\x04 \x01(\x01H\x00R\x0bdoub'
    b'leParam\x12#\n\x0cuint64_param\x18\x05 \x01(\x04H\x00R\x0buint64ParamB\x12\n\x10parameter_ch'
    b'oice"\xc3\x02\n\x13InferTensorContents\x12#\n\rbool_contents\x18\x01 \x03(\x08R\x0cboolCon'
    b'tents\x12!\n\x0cint_contents\x18\x02 \x03(\x05R\x0bintContents\x12%\n\x0eint64_contents\x18\x03'
    b" \x03(\x03R\rint64Contents\x12#\n\ruint_contents\x18\x04 \x03(\rR\x0cuintContents\x12'\n\x0f"
    b'uint64_contents\x18\x05 \x03(\x04R\x0euint64Contents\x12#\n\rfp32_contents\x18\x06 \x03(\x02'
    b'R\x0cfp32Contents\x12#\n\rfp64_contents\x18\x07 \x03(\x01R\x0cfp64Contents\x12%\n\x0ebytes'
    b'_contents\x18\x08 \x03(\x0cR\rbytesContents"\x9d\x08\n\x11ModelInferRequest\x12\x1d\n\nmode'
    b'l_name\x18\x01 \x01(\tR\tmodelName\x12#\n\rmodel_version\x18\x02 \x01(\tR\x0cmodelVersion'
    b'\x12\x0e\n\x02id\x18\x03 \x01(\tR\x02id\x12L\n\nparameters\x18\x04 \x03(\x0b2,.inference.ModelInferR'
    b'equest.ParametersEntryR\nparameters\x12E\n\x06inputs\x18\x05 \x03(\x0b2-.inferen'
    b'ce.ModelInferRequest.InferInputTensorR\x06inputs\x12Q\n\x07outputs\x18\x06 \x03'
    b'(\x0b27.inference.ModelInferRequest.InferRequestedOutputTensorR'
    b'\x07outputs\x12,\n\x12raw_input_contents\x18\x07 \x03(\x0cR\x10rawInputContents\x1a\xcd\x02\n\x10I'
    b'nferInputTensor\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1a\n\x08datatype\x18\x02 \x01(\tR\x08datat'
    b'ype\x12\x14\n\x05shape\x18\x03 \x03(\x03R\x05shape\x12]\n\nparameters\x18\x04 \x03(\x0b2=.inference.Mo'
    b'delInferRequest.InferInputTensor.ParametersEntryR\nparameters'
    b'\x12:\n\x08contents\x18\x05 \x01(\x0b2\x1e.inference.InferTensorContentsR\x08contents'
    b'\x1aX\n\x0fParametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2\x19.infer'
    b'ence.InferParameterR\x05value:\x028\x01\x1a\xf3\x01\n\x1aInferRequestedOutputTenso'
    b'r\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12g\n\nparameters\x18\x02 \x03(\x0b2G.inference.ModelI'
    b'nferRequest.InferRequestedOutputTensor.ParametersEntryR\npara'
    b'meters\x1aX\n\x0fParametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2\x19'
    b'.inference.InferParameterR\x05value:\x028\x01\x1aX\n\x0fParametersEntry\x12\x10\n\x03k'
    b'ey\x18\x01 \x01(\tR\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2\x19.inference.InferParameterR\x05val'
    b'ue:\x028\x01"\xdf\x05\n\x12ModelInferResponse\x12\x1d\n\nmodel_name\x18\x01 \x01(\tR\tmodelName'
    b'\x12#\n\rmodel_version\x18\x02 \x01(\tR\x0cmodelVersion\x12\x0e\n\x02id\x18\x03 \x01(\tR\x02id\x12M\n\npar'
    b'ameters\x18\x04 \x03(\x0b2-.inference.ModelInferResponse.ParametersEntry'
    b'R\nparameters\x12I\n\x07outputs\x18\x05 \x03(\x0b2/.inference.ModelInferResponse'
    b'.InferOutputTensorR\x07outputs\x12.\n\x13raw_output_contents\x18\x06 \x03(\x0cR\x11ra'
    b'wOutputContents\x1a\xd0\x02\n\x11InferOutputTensor\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1a\n'
    b'\x08datatype\x18\x02 \x01(\tR\x08datatype\x12\x14\n\x05shape\x18\x03 \x03(\x03R\x05shape\x12_\n\nparameter'
    b's\x18\x04 \x03(\x0b2?.inference.ModelInferResponse.InferOutputTensor.Par'
    b'ametersEntryR\nparameters\x12:\n\x08contents\x18\x05 \x01(\x0b2\x1e.inference.Infer'
    b'TensorContentsR\x08contents\x1aX\n\x0fParametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03ke'
    b'y\x12/\n\x05value\x18\x02 \x01(\x0b2\x19.inference.InferParameterR\x05value:\x028\x01\x1aX\n\x0fPa'
    b'rametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2\x19.inference.I'
    b'nferParameterR\x05value:\x028\x01"\x85\x01\n\x18ModelStreamInferResponse\x12#\n\rerr'
    b'or_message\x18\x01 \x01(\tR\x0cerrorMessage\x12D\n\x0einfer_response\x18\x02 \x01(\x0b2\x1d.inf'
    b'erence.ModelInferResponseR\rinferResponse"f\n\nModelInput\x12\x12\n\x04na'
    b'me\x18\x01 \x01(\tR\x04name\x120\n\tdata_type\x18\x02 \x01(\x0e2\x13.inference.DataTypeR\x08data'
    b'Type\x12\x12\n\x04dims\x18\x04 \x03(\x03R\x04dims"g\n\x0bModelOutput\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12'
    b'0\n\tdata_type\x18\x02 \x01(\x0e2\x13.inference.DataTypeR\x08dataType\x12\x12\n\x04dims\x18\x03 '
    b'\x03(\x03R\x04dims"\xcd\x01\n\x12ModelInstanceGroup\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x14\n\x05coun'
    b't\x18\x02 \x01(\x05R\x05count\x12\x12\n\x04gpus\x18\x03 \x03(\x05R\x04gpus\x126\n\x04kind\x18\x04 \x01(\x0e2".inference'
    b'.ModelInstanceGroup.KindR\x04kind"A\n\x04Kind\x12\r\n\tKIND_AUTO\x10\x00\x12\x0c\n\x08KIN'
    b'D_GPU\x10\x01\x12\x0c\n\x08KIND_CPU\x10\x02\x12\x0e\n\nKIND_MODEL\x10\x03"\xb0\x01\n\x10ModelQueuePolicy\x12@'
    b'\n\x1cdefault_timeout_microseconds\x18\x02 \x01(\x04R\x1adefaultTimeoutMicrosec'
    b'onds\x124\n\x16allow_timeout_override\x18\x03 \x01(\x08R\x14allowTimeoutOverride\x12$'
    b'\n\x0emax_queue_size\x18\x04 \x01(\rR\x0cmaxQueueSize"\xa6\x01\n\x14ModelDynamicBatchin'
    b'g\x12?\n\x1cmax_queue_delay_microseconds\x18\x02 \x01(\x04R\x19maxQueueDelayMicros'
    b'econds\x12M\n\x14default_queue_policy\x18\x06 \x01(\x0b2\x1b.inference.ModelQueueP'
    b'olicyR\x12defaultQueuePolicy"6\n\x16ModelTransactionPolicy\x12\x1c\n\tdecou'
    b'pled\x18\x01 \x01(\x08R\tdecoupled"\xc9\x03\n\x0bModelConfig\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1a\n'
    b'\x08platform\x18\x02 \x01(\tR\x08platform\x12$\n\x0emax_batch_size\x18\x04 \x01(\x05R\x0cmaxBatchS'
    b'ize\x12+\n\x05input\x18\x05 \x03(\x0b2\x15.inference.ModelInputR\x05input\x12.\n\x06output\x18\x06'
    b' \x03(\x0b2\x16.inference.ModelOutputR\x06output\x12D\n\x0einstance_group\x18\x07 \x03(\x0b'
    b'2\x1d.inference.ModelInstanceGroupR\rinstanceGroup\x12J\n\x10dynamic_ba'
    b'tching\x18\x0b \x01(\x0b2\x1f.inference.ModelDynamicBatchingR\x0fdynamicBatchi'
    b'ng\x12\x18\n\x07backend\x18\x11 \x01(\tR\x07backend\x12[\n\x18model_transaction_policy\x18\x13 \x01'
    b'(\x0b2!.inference.ModelTransactionPolicyR\x16modelTransactionPolic'
    b'y"B\n\x12ModelConfigRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\t'
    b'R\x07version"E\n\x13ModelConfigResponse\x12.\n\x06config\x18\x01 \x01(\x0b2\x16.inference'
    b'.ModelConfigR\x06config"9\n\x11StatisticDuration\x12\x14\n\x05count\x18\x01 \x01(\x04R\x05co'
    b'unt\x12\x0e\n\x02ns\x18\x02 \x01(\x04R\x02ns"\xf2\x03\n\x0fInferStatistics\x126\n\x07success\x18\x01 \x01(\x0b2\x1c.i'
    b'nference.StatisticDurationR\x07success\x120\n\x04fail\x18\x02 \x01(\x0b2\x1c.inferenc'
    b'e.StatisticDurationR\x04fail\x122\n\x05queue\x18\x03 \x01(\x0b2\x1c.inference.Statist'
    b'icDurationR\x05queue\x12A\n\rcompute_input\x18\x04 \x01(\x0b2\x1c.inference.Statist'
    b'icDurationR\x0ccomputeInput\x12A\n\rcompute_infer\x18\x05 \x01(\x0b2\x1c.inference.'
    b'StatisticDurationR\x0ccomputeInfer\x12C\n\x0ecompute_output\x18\x06 \x01(\x0b2\x1c.in'
    b'ference.StatisticDurationR\rcomputeOutput\x129\n\tcache_hit\x18\x07 \x01(\x0b2'
    b'\x1c.inference.StatisticDurationR\x08cacheHit\x12;\n\ncache_miss\x18\x08 \x01(\x0b2'
    b'\x1c.inference.StatisticDurationR\tcacheMiss"\x80\x02\n\x14InferBatchStati'
    b'stics\x12\x1d\n\nbatch_size\x18\x01 \x01(\x04R\tbatchSize\x12A\n\rcompute_input\x18\x02 \x01(\x0b2'
    b'\x1c.inference.StatisticDurationR\x0ccomputeInput\x12A\n\rcompute_infer'
    b'\x18\x03 \x01(\x0b2\x1c.inference.StatisticDurationR\x0ccomputeInfer\x12C\n\x0ecomput'
    b'e_output\x18\x04 \x01(\x0b2\x1c.inference.StatisticDurationR\rcomputeOutput"'
    b'N\n\x0bMemoryUsage\x12\x12\n\x04type\x18\x01 \x01(\tR\x04type\x12\x0e\n\x02id\x18\x02 \x01(\x03R\x02id\x12\x1b\n\tbyte_s'
    b'ize\x18\x03 \x01(\x04R\x08byteSize"\xfa\x02\n\x0fModelStatistics\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12'
    b'\x18\n\x07version\x18\x02 \x01(\tR\x07version\x12%\n\x0elast_inference\x18\x03 \x01(\x04R\rlastInfer'
    b"ence\x12'\n\x0finference_count\x18\x04 \x01(\x04R\x0einferenceCount\x12'\n\x0fexecution_c"
    b'ount\x18\x05 \x01(\x04R\x0eexecutionCount\x12C\n\x0finference_stats\x18\x06 \x01(\x0b2\x1a.infere'
    b'nce.InferStatisticsR\x0einferenceStats\x12@\n\x0bbatch_stats\x18\x07 \x03(\x0b2\x1f.i'
    b'nference.InferBatchStatisticsR\nbatchStats\x129\n\x0cmemory_usage\x18\x08 '
    b'\x03(\x0b2\x16.inference.MemoryUsageR\x0bmemoryUsage"F\n\x16ModelStatisticsR'
    b'equest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version"V\n\x17Mode'
    b'lStatisticsResponse\x12;\n\x0bmodel_stats\x18\x01 \x03(\x0b2\x1a.inference.ModelSt'
    b'atisticsR\nmodelStats"\xba\x01\n\x18ModelRepositoryParameter\x12\x1f\n\nbool_pa'
    b'ram\x18\x01 \x01(\x08H\x00R\tboolParam\x12!\n\x0bint64_param\x18\x02 \x01(\x03H\x00R\nint64Param\x12#\n'
    b'\x0cstring_param\x18\x03 \x01(\tH\x00R\x0bstringParam\x12!\n\x0bbytes_param\x18\x04 \x01(\x0cH\x00R\nb'
    b'ytesParamB\x12\n\x10parameter_choice"W\n\x16RepositoryIndexRequest\x12\'\n\x0fr'
    b'epository_name\x18\x01 \x01(\tR\x0erepositoryName\x12\x14\n\x05ready\x18\x02 \x01(\x08R\x05ready"\xca'
    b'\x01\n\x17RepositoryIndexResponse\x12E\n\x06models\x18\x01 \x03(\x0b2-.inference.Repos'
    b'itoryIndexResponse.ModelIndexR\x06models\x1ah\n\nModelIndex\x12\x12\n\x04name\x18'
    b'\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version\x12\x14\n\x05state\x18\x03 \x01(\tR\x05state\x12'
    b'\x16\n\x06reason\x18\x04 \x01(\tR\x06reason"\x9f\x02\n\x1aRepositoryModelLoadRequest\x12\'\n\x0fre'
    b'pository_name\x18\x01 \x01(\tR\x0erepositoryName\x12\x1d\n\nmodel_name\x18\x02 \x01(\tR\tmod'
    b'elName\x12U\n\nparameters\x18\x03 \x03(\x0b25.inference.RepositoryModelLoadRe'
    b'quest.ParametersEntryR\nparameters\x1ab\n\x0fParametersEntry\x12\x10\n\x03key\x18'
    b'\x01 \x01(\tR\x03key\x129\n\x05value\x18\x02 \x01(\x0b2#.inference.ModelRepositoryParamet'
    b'erR\x05value:\x028\x01"\x1d\n\x1bRepositoryModelLoadResponse"\xa3\x02\n\x1cRepositoryM'
    b"odelUnloadRequest\x12'\n\x0frepository_name\x18\x01 \x01(\tR\x0erepositoryName\x12\x1d"
    b'\n\nmodel_name\x18\x02 \x01(\tR\tmodelName\x12W\n\nparameters\x18\x03 \x03(\x0b27.inferenc'
    b'e.RepositoryModelUnloadRequest.ParametersEntryR\nparameters\x1ab'
    b'\n\x0fParametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x129\n\x05value\x18\x02 \x01(\x0b2#.inferen'
    b'ce.ModelRepositoryParameterR\x05value:\x028\x01"\x1f\n\x1dRepositoryModelUnl'
    b'oadResponse"5\n\x1fSystemSharedMemoryStatusRequest\x12\x12\n\x04name\x18\x01 \x01(\t'
    b'R\x04name"\xd7\x02\n SystemSharedMemoryStatusResponse\x12R\n\x07regions\x18\x01 \x03(\x0b'
    b'28.inference.SystemSharedMemoryStatusResponse.RegionsEntryR\x07'
    b'regions\x1ai\n\x0cRegionStatus\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x10\n\x03key\x18\x02 \x01(\tR\x03ke'
    b'y\x12\x16\n\x06offset\x18\x03 \x01(\x04R\x06offset\x12\x1b\n\tbyte_size\x18\x04 \x01(\x04R\x08byteSize\x1at\n\x0cRe'
    b'gionsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12N\n\x05value\x18\x02 \x01(\x0b28.inference.Syst'
    b'emSharedMemoryStatusResponse.RegionStatusR\x05value:\x028\x01"~\n!Syst'
    b'emSharedMemoryRegisterRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x10\n\x03key\x18\x02 \x01'
    b'(\tR\x03key\x12\x16\n\x06offset\x18\x03 \x01(\x04R\x06offset\x12\x1b\n\tbyte_size\x18\x04 \x01(\x04R\x08byteSize'
    b'"$\n"SystemSharedMemoryRegisterResponse"9\n#SystemSharedMemory'
    b'UnregisterRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name"&\n$SystemSharedMemoryU'
    b'nregisterResponse"3\n\x1dCudaSharedMemoryStatusRequest\x12\x12\n\x04name\x18\x01'
    b' \x01(\tR\x04name"\xc4\x02\n\x1eCudaSharedMemoryStatusResponse\x12P\n\x07regions\x18\x01 \x03'
    b'(\x0b26.inference.CudaSharedMemoryStatusResponse.RegionsEntryR\x07'
    b'regions\x1a\\\n\x0cRegionStatus\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1b\n\tdevice_id\x18\x02 \x01'
    b'(\x04R\x08deviceId\x12\x1b\n\tbyte_size\x18\x03 \x01(\x04R\x08byteSize\x1ar\n\x0cRegionsEntry\x12\x10\n'
    b'\x03key\x18\x01 \x01(\tR\x03key\x12L\n\x05value\x18\x02 \x01(\x0b26.inference.CudaSharedMemoryS'
    b'tatusResponse.RegionStatusR\x05value:\x028\x01"\x8e\x01\n\x1fCudaSharedMemoryRe'
    b'gisterRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1d\n\nraw_handle\x18\x02 \x01(\x0cR\trawHa'
    b'ndle\x12\x1b\n\tdevice_id\x18\x03 \x01(\x03R\x08deviceId\x12\x1b\n\tbyte_size\x18\x04 \x01(\x04R\x08byteSi'
    b'ze""\n CudaSharedMemoryRegisterResponse"7\n!CudaSharedMemoryUn'
    b'registerRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name"$\n"CudaSharedMemoryUnreg'
    b'isterResponse"\x8e\x02\n\x13TraceSettingRequest\x12H\n\x08settings\x18\x01 \x03(\x0b2,.in'
    b'ference.TraceSettingRequest.SettingsEntryR\x08settings\x12\x1d\n\nmodel'
    b'_name\x18\x02 \x01(\tR\tmodelName\x1a$\n\x0cSettingValue\x12\x14\n\x05value\x18\x01 \x03(\tR\x05value'
    b'\x1ah\n\rSettingsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12A\n\x05value\x18\x02 \x01(\x0b2+.inferen'
    b'ce.TraceSettingRequest.SettingValueR\x05value:\x028\x01"\xf2\x01\n\x14TraceSett'
    b'ingResponse\x12I\n\x08settings\x18\x01 \x03(\x0b2-.inference.TraceSettingRespon'
    b'se.SettingsEntryR\x08settings\x1a$\n\x0cSettingValue\x12\x14\n\x05value\x18\x01 \x03(\tR\x05v'
    b'alue\x1ai\n\rSettingsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12B\n\x05value\x18\x02 \x01(\x0b2,.inf'
    b'erence.TraceSettingResponse.SettingValueR\x05value:\x028\x01"\xd6\x02\n\x12LogS'
    b'ettingsRequest\x12G\n\x08settings\x18\x01 \x03(\x0b2+.inference.LogSettingsRequ'
    b'est.SettingsEntryR\x08settings\x1a\x8d\x01\n\x0cSettingValue\x12\x1f\n\nbool_param\x18\x01'
    b' \x01(\x08H\x00R\tboolParam\x12#\n\x0cuint32_param\x18\x02 \x01(\rH\x00R\x0buint32Param\x12#\n\x0cst'
    b'ring_param\x18\x03 \x01(\tH\x00R\x0bstringParamB\x12\n\x10parameter_choice\x1ag\n\rSetti'
    b'ngsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12@\n\x05value\x18\x02 \x01(\x0b2*.inference.LogSet'
    b'tingsRequest.SettingValueR\x05value:\x028\x01"\xd9\x02\n\x13LogSettingsResponse'
    b'\x12H\n\x08settings\x18\x01 \x03(\x0b2,.inference.LogSettingsResponse.SettingsE'
    b'ntryR\x08settings\x1a\x8d\x01\n\x0cSettingValue\x12\x1f\n\nbool_param\x18\x01 \x01(\x08H\x00R\tboolP'
    b'aram\x12#\n\x0cuint32_param\x18\x02 \x01(\rH\x00R\x0buint32Param\x12#\n\x0cstring_param\x18\x03 '
    b'\x01(\tH\x00R\x0bstringParamB\x12\n\x10parameter_choice\x1ah\n\rSettingsEntry\x12\x10\n\x03k'
    b'ey\x18\x01 \x01(\tR\x03key\x12A\n\x05value\x18\x02 \x01(\x0b2+.inference.LogSettingsResponse'
    b'.SettingValueR\x05value:\x028\x01*\xfa\x01\n\x08DataType\x12\x10\n\x0cTYPE_INVALID\x10\x00\x12\r\n\tT'
    b'YPE_BOOL\x10\x01\x12\x0e\n\nTYPE_UINT8\x10\x02\x12\x0f\n\x0bTYPE_UINT16\x10\x03\x12\x0f\n\x0bTYPE_UINT32\x10\x04'
    b'\x12\x0f\n\x0bTYPE_UINT64\x10\x05\x12\r\n\tTYPE_INT8\x10\x06\x12\x0e\n\nTYPE_INT16\x10\x07\x12\x0e\n\nTYPE_INT'
    b'32\x10\x08\x12\x0e\n\nTYPE_INT64\x10\t\x12\r\n\tTYPE_FP16\x10\n\x12\r\n\tTYPE_FP32\x10\x0b\x12\r\n\tTYPE_F'
    b'P64\x10\x0c\x12\x0f\n\x0bTYPE_STRING\x10\r\x12\r\n\tTYPE_BF16\x10\x0e2\x8e\x0f\n\x14GRPCInferenceServi'
    b'ce\x12I\n\nServerLive\x12\x1c.inference.ServerLiveRequest\x1a\x1d.inference.S'
    b'erverLiveResponse\x12L\n\x0bServerReady\x12\x1d.inference.ServerReadyRequ'
    b'est\x1a\x1e.inference.ServerReadyResponse\x12I\n\nModelReady\x12\x1c.inferenc'
    b'e.ModelReadyRequest\x1a\x1d.inference.ModelReadyResponse\x12U\n\x0eServer'
    b'Metadata\x12 .inference.ServerMetadataRequest\x1a!.inference.Serve'
    b'rMetadataResponse\x12R\n\rModelMetadata\x12\x1f.inference.ModelMetadata'
    b'Request\x1a .inference.ModelMetadataResponse\x12L\n\x0bModelConfig\x12\x1d.i'
    b'nference.ModelConfigRequest\x1a\x1e.inference.ModelConfigResponse\x12'
    b'X\n\x0fModelStatistics\x12!.inference.ModelStatisticsRequest\x1a".infe'
    b'rence.ModelStatisticsResponse\x12I\n\nModelInfer\x12\x1c.inference.Mode'
    b'lInferRequest\x1a\x1d.inference.ModelInferResponse\x12Y\n\x10ModelStreamI'
    b'nfer\x12\x1c.inference.ModelInferRequest\x1a#.inference.ModelStreamIn'
    b'ferResponse(\x010\x01\x12X\n\x0fRepositoryIndex\x12!.inference.RepositoryInd'
    b'exRequest\x1a".inference.RepositoryIndexResponse\x12d\n\x13RepositoryM'
    b'odelLoad\x12%.inference.RepositoryModelLoadRequest\x1a&.inference.'
    b"RepositoryModelLoadResponse\x12j\n\x15RepositoryModelUnload\x12'.infer"
    b'ence.RepositoryModelUnloadRequest\x1a(.inference.RepositoryMode'
    b'lUnloadResponse\x12s\n\x18SystemSharedMemoryStatus\x12*.inference.Syst'
    b'emSharedMemoryStatusRequest\x1a+.inference.SystemSharedMemorySt'
    b'atusResponse\x12y\n\x1aSystemSharedMemoryRegister\x12,.inference.Syste'
    b'mSharedMemoryRegisterRequest\x1a-.inference.SystemSharedMemoryR'
    b'egisterResponse\x12\x7f\n\x1cSystemSharedMemoryUnregister\x12..inference.'
    b'SystemSharedMemoryUnregisterRequest\x1a/.inference.SystemShared'
    b'MemoryUnregisterResponse\x12m\n\x16CudaSharedMemoryStatus\x12(.inferen'
    b'ce.CudaSharedMemoryStatusRequest\x1a).inference.CudaSharedMemor'
    b'yStatusResponse\x12s\n\x18CudaSharedMemoryRegister\x12*.inference.Cuda'
    b'SharedMemoryRegisterRequest\x1a+.inference.CudaSharedMemoryRegi'
    b'sterResponse\x12y\n\x1aCudaSharedMemoryUnregister\x12,.inference.CudaS'
    b'haredMemoryUnregisterRequest\x1a-.inference.CudaSharedMemoryUnr'
    b'egisterResponse\x12O\n\x0cTraceSetting\x12\x1e.inference.TraceSettingRequ'
    b'est\x1a\x1f.inference.TraceSettingResponse\x12L\n\x0bLogSettings\x12\x1d.infere'
    b'nce.LogSettingsRequest\x1a\x1e.inference.LogSettingsResponseb\x06prot'
    b'o3'
)

SERVICE = _FILE.services_by_name["GRPCInferenceService"]

ServerLiveRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["ServerLiveRequest"])
ServerLiveResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["ServerLiveResponse"])
ServerReadyRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["ServerReadyRequest"])
ServerReadyResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["ServerReadyResponse"])
ModelReadyRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelReadyRequest"])
ModelReadyResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelReadyResponse"])
ServerMetadataRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["ServerMetadataRequest"])
ServerMetadataResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["ServerMetadataResponse"])
ModelMetadataRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelMetadataRequest"])
ModelMetadataResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelMetadataResponse"])
InferParameter = message_factory.GetMessageClass(_FILE.message_types_by_name["InferParameter"])
InferTensorContents = message_factory.GetMessageClass(_FILE.message_types_by_name["InferTensorContents"])
ModelInferRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelInferRequest"])
ModelInferResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelInferResponse"])
ModelStreamInferResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelStreamInferResponse"])
ModelInput = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelInput"])
ModelOutput = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelOutput"])
ModelInstanceGroup = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelInstanceGroup"])
ModelQueuePolicy = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelQueuePolicy"])
ModelDynamicBatching = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelDynamicBatching"])
ModelTransactionPolicy = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelTransactionPolicy"])
ModelConfig = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelConfig"])
ModelConfigRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelConfigRequest"])
ModelConfigResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelConfigResponse"])
StatisticDuration = message_factory.GetMessageClass(_FILE.message_types_by_name["StatisticDuration"])
InferStatistics = message_factory.GetMessageClass(_FILE.message_types_by_name["InferStatistics"])
InferBatchStatistics = message_factory.GetMessageClass(_FILE.message_types_by_name["InferBatchStatistics"])
MemoryUsage = message_factory.GetMessageClass(_FILE.message_types_by_name["MemoryUsage"])
ModelStatistics = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelStatistics"])
ModelStatisticsRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelStatisticsRequest"])
ModelStatisticsResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelStatisticsResponse"])
ModelRepositoryParameter = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelRepositoryParameter"])
RepositoryIndexRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["RepositoryIndexRequest"])
RepositoryIndexResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["RepositoryIndexResponse"])
RepositoryModelLoadRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["RepositoryModelLoadRequest"])
RepositoryModelLoadResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["RepositoryModelLoadResponse"])
RepositoryModelUnloadRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["RepositoryModelUnloadRequest"])
RepositoryModelUnloadResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["RepositoryModelUnloadResponse"])
SystemSharedMemoryStatusRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["SystemSharedMemoryStatusRequest"])
SystemSharedMemoryStatusResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["SystemSharedMemoryStatusResponse"])
SystemSharedMemoryRegisterRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["SystemSharedMemoryRegisterRequest"])
SystemSharedMemoryRegisterResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["SystemSharedMemoryRegisterResponse"])
SystemSharedMemoryUnregisterRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["SystemSharedMemoryUnregisterRequest"])
SystemSharedMemoryUnregisterResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["SystemSharedMemoryUnregisterResponse"])
CudaSharedMemoryStatusRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["CudaSharedMemoryStatusRequest"])
CudaSharedMemoryStatusResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["CudaSharedMemoryStatusResponse"])
CudaSharedMemoryRegisterRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["CudaSharedMemoryRegisterRequest"])
CudaSharedMemoryRegisterResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["CudaSharedMemoryRegisterResponse"])
CudaSharedMemoryUnregisterRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["CudaSharedMemoryUnregisterRequest"])
CudaSharedMemoryUnregisterResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["CudaSharedMemoryUnregisterResponse"])
TraceSettingRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["TraceSettingRequest"])
TraceSettingResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["TraceSettingResponse"])
LogSettingsRequest = message_factory.GetMessageClass(_FILE.message_types_by_name["LogSettingsRequest"])
LogSettingsResponse = message_factory.GetMessageClass(_FILE.message_types_by_name["LogSettingsResponse"])
