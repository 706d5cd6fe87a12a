"""Messages of inference.proto. Made by scripts/make_grpc_protocol.py; do not edit."""

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper

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
    b'D_GPU\x10\x01\x12\x0c\n\x08KIND_CPU\x10\x02\x12\x0e\n\nKIND_MODEL\x10\x03"\xbe\x02\n\x12ModelVersionPolicy'
    b'\x12>\n\x06latest\x18\x01 \x01(\x0b2$.inference.ModelVersionPolicy.LatestH\x00R\x06la'
    b'test\x125\n\x03all\x18\x02 \x01(\x0b2!.inference.ModelVersionPolicy.AllH\x00R\x03all\x12'
    b'D\n\x08specific\x18\x03 \x01(\x0b2&.inference.ModelVersionPolicy.SpecificH\x00R'
    b'\x08specific\x1a+\n\x06Latest\x12!\n\x0cnum_versions\x18\x01 \x01(\rR\x0bnumVersions\x1a\x05\n\x03Al'
    b'l\x1a&\n\x08Specific\x12\x1a\n\x08versions\x18\x01 \x03(\x03R\x08versionsB\x0f\n\rpolicy_choice"\xb0'
    b'\x01\n\x10ModelQueuePolicy\x12@\n\x1cdefault_timeout_microseconds\x18\x02 \x01(\x04R\x1ad'
    b'efaultTimeoutMicroseconds\x124\n\x16allow_timeout_override\x18\x03 \x01(\x08R\x14a'
    b'llowTimeoutOverride\x12$\n\x0emax_queue_size\x18\x04 \x01(\rR\x0cmaxQueueSize"\xa6\x01'
    b'\n\x14ModelDynamicBatching\x12?\n\x1cmax_queue_delay_microseconds\x18\x02 \x01(\x04'
    b'R\x19maxQueueDelayMicroseconds\x12M\n\x14default_queue_policy\x18\x06 \x01(\x0b2\x1b.'
    b'inference.ModelQueuePolicyR\x12defaultQueuePolicy"6\n\x16ModelTrans'
    b'actionPolicy\x12\x1c\n\tdecoupled\x18\x01 \x01(\x08R\tdecoupled"3\n\x0eModelParameter'
    b'\x12!\n\x0cstring_value\x18\x01 \x01(\tR\x0bstringValue"\xb1\x05\n\x0bModelConfig\x12\x12\n\x04name\x18'
    b'\x01 \x01(\tR\x04name\x12\x1a\n\x08platform\x18\x02 \x01(\tR\x08platform\x12D\n\x0eversion_policy\x18\x03 '
    b'\x01(\x0b2\x1d.inference.ModelVersionPolicyR\rversionPolicy\x12$\n\x0emax_bat'
    b'ch_size\x18\x04 \x01(\x05R\x0cmaxBatchSize\x12+\n\x05input\x18\x05 \x03(\x0b2\x15.inference.Model'
    b'InputR\x05input\x12.\n\x06output\x18\x06 \x03(\x0b2\x16.inference.ModelOutputR\x06output'
    b'\x12D\n\x0einstance_group\x18\x07 \x03(\x0b2\x1d.inference.ModelInstanceGroupR\rins'
    b'tanceGroup\x12J\n\x10dynamic_batching\x18\x0b \x01(\x0b2\x1f.inference.ModelDynami'
    b'cBatchingR\x0fdynamicBatching\x12F\n\nparameters\x18\x0e \x03(\x0b2&.inference.M'
    b'odelConfig.ParametersEntryR\nparameters\x12\x18\n\x07backend\x18\x11 \x01(\tR\x07bac'
    b'kend\x12[\n\x18model_transaction_policy\x18\x13 \x01(\x0b2!.inference.ModelTran'
    b'sactionPolicyR\x16modelTransactionPolicy\x1aX\n\x0fParametersEntry\x12\x10\n\x03'
    b'key\x18\x01 \x01(\tR\x03key\x12/\n\x05value\x18\x02 \x01(\x0b2\x19.inference.ModelParameterR\x05va'
    b'lue:\x028\x01"B\n\x12ModelConfigRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version'
    b'\x18\x02 \x01(\tR\x07version"E\n\x13ModelConfigResponse\x12.\n\x06config\x18\x01 \x01(\x0b2\x16.inf'
    b'erence.ModelConfigR\x06config"9\n\x11StatisticDuration\x12\x14\n\x05count\x18\x01 \x01'
    b'(\x04R\x05count\x12\x0e\n\x02ns\x18\x02 \x01(\x04R\x02ns"\xf2\x03\n\x0fInferStatistics\x126\n\x07success\x18\x01 \x01'
    b'(\x0b2\x1c.inference.StatisticDurationR\x07success\x120\n\x04fail\x18\x02 \x01(\x0b2\x1c.in'
    b'ference.StatisticDurationR\x04fail\x122\n\x05queue\x18\x03 \x01(\x0b2\x1c.inference.S'
    b'tatisticDurationR\x05queue\x12A\n\rcompute_input\x18\x04 \x01(\x0b2\x1c.inference.S'
    b'tatisticDurationR\x0ccomputeInput\x12A\n\rcompute_infer\x18\x05 \x01(\x0b2\x1c.infe'
    b'rence.StatisticDurationR\x0ccomputeInfer\x12C\n\x0ecompute_output\x18\x06 \x01('
    b'\x0b2\x1c.inference.StatisticDurationR\rcomputeOutput\x129\n\tcache_hit\x18'
    b'\x07 \x01(\x0b2\x1c.inference.StatisticDurationR\x08cacheHit\x12;\n\ncache_miss\x18'
    b'\x08 \x01(\x0b2\x1c.inference.StatisticDurationR\tcacheMiss"\x80\x02\n\x14InferBatc'
    b'hStatistics\x12\x1d\n\nbatch_size\x18\x01 \x01(\x04R\tbatchSize\x12A\n\rcompute_input\x18'
    b'\x02 \x01(\x0b2\x1c.inference.StatisticDurationR\x0ccomputeInput\x12A\n\rcompute'
    b'_infer\x18\x03 \x01(\x0b2\x1c.inference.StatisticDurationR\x0ccomputeInfer\x12C\n\x0e'
    b'compute_output\x18\x04 \x01(\x0b2\x1c.inference.StatisticDurationR\rcomputeO'
    b'utput"N\n\x0bMemoryUsage\x12\x12\n\x04type\x18\x01 \x01(\tR\x04type\x12\x0e\n\x02id\x18\x02 \x01(\x03R\x02id\x12\x1b\n\t'
    b'byte_size\x18\x03 \x01(\x04R\x08byteSize"\xfa\x02\n\x0fModelStatistics\x12\x12\n\x04name\x18\x01 \x01(\tR'
    b'\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version\x12%\n\x0elast_inference\x18\x03 \x01(\x04R\rlas'
    b"tInference\x12'\n\x0finference_count\x18\x04 \x01(\x04R\x0einferenceCount\x12'\n\x0fexecu"
    b'tion_count\x18\x05 \x01(\x04R\x0eexecutionCount\x12C\n\x0finference_stats\x18\x06 \x01(\x0b2\x1a.'
    b'inference.InferStatisticsR\x0einferenceStats\x12@\n\x0bbatch_stats\x18\x07 \x03'
    b'(\x0b2\x1f.inference.InferBatchStatisticsR\nbatchStats\x129\n\x0cmemory_us'
    b'age\x18\x08 \x03(\x0b2\x16.inference.MemoryUsageR\x0bmemoryUsage"F\n\x16ModelStati'
    b'sticsRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version"V'
    b'\n\x17ModelStatisticsResponse\x12;\n\x0bmodel_stats\x18\x01 \x03(\x0b2\x1a.inference.M'
    b'odelStatisticsR\nmodelStats"\xba\x01\n\x18ModelRepositoryParameter\x12\x1f\n\nb'
    b'ool_param\x18\x01 \x01(\x08H\x00R\tboolParam\x12!\n\x0bint64_param\x18\x02 \x01(\x03H\x00R\nint64Pa'
    b'ram\x12#\n\x0cstring_param\x18\x03 \x01(\tH\x00R\x0bstringParam\x12!\n\x0bbytes_param\x18\x04 \x01('
    b'\x0cH\x00R\nbytesParamB\x12\n\x10parameter_choice"W\n\x16RepositoryIndexReques'
    b"t\x12'\n\x0frepository_name\x18\x01 \x01(\tR\x0erepositoryName\x12\x14\n\x05ready\x18\x02 \x01(\x08R\x05r"
    b'eady"\xca\x01\n\x17RepositoryIndexResponse\x12E\n\x06models\x18\x01 \x03(\x0b2-.inference'
    b'.RepositoryIndexResponse.ModelIndexR\x06models\x1ah\n\nModelIndex\x12\x12\n'
    b'\x04name\x18\x01 \x01(\tR\x04name\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version\x12\x14\n\x05state\x18\x03 \x01(\tR\x05'
    b'state\x12\x16\n\x06reason\x18\x04 \x01(\tR\x06reason"\x9f\x02\n\x1aRepositoryModelLoadRequest'
    b"\x12'\n\x0frepository_name\x18\x01 \x01(\tR\x0erepositoryName\x12\x1d\n\nmodel_name\x18\x02 \x01("
    b'\tR\tmodelName\x12U\n\nparameters\x18\x03 \x03(\x0b25.inference.RepositoryModel'
    b'LoadRequest.ParametersEntryR\nparameters\x1ab\n\x0fParametersEntry\x12\x10'
    b'\n\x03key\x18\x01 \x01(\tR\x03key\x129\n\x05value\x18\x02 \x01(\x0b2#.inference.ModelRepositoryP'
    b'arameterR\x05value:\x028\x01"\x1d\n\x1bRepositoryModelLoadResponse"\xa3\x02\n\x1cRepos'
    b"itoryModelUnloadRequest\x12'\n\x0frepository_name\x18\x01 \x01(\tR\x0erepository"
    b'Name\x12\x1d\n\nmodel_name\x18\x02 \x01(\tR\tmodelName\x12W\n\nparameters\x18\x03 \x03(\x0b27.in'
    b'ference.RepositoryModelUnloadRequest.ParametersEntryR\nparame'
    b'ters\x1ab\n\x0fParametersEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x129\n\x05value\x18\x02 \x01(\x0b2#.i'
    b'nference.ModelRepositoryParameterR\x05value:\x028\x01"\x1f\n\x1dRepositoryMo'
    b'delUnloadResponse"5\n\x1fSystemSharedMemoryStatusRequest\x12\x12\n\x04name'
    b'\x18\x01 \x01(\tR\x04name"\xd7\x02\n SystemSharedMemoryStatusResponse\x12R\n\x07regions'
    b'\x18\x01 \x03(\x0b28.inference.SystemSharedMemoryStatusResponse.RegionsE'
    b'ntryR\x07regions\x1ai\n\x0cRegionStatus\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x10\n\x03key\x18\x02 \x01'
    b'(\tR\x03key\x12\x16\n\x06offset\x18\x03 \x01(\x04R\x06offset\x12\x1b\n\tbyte_size\x18\x04 \x01(\x04R\x08byteSize'
    b'\x1at\n\x0cRegionsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12N\n\x05value\x18\x02 \x01(\x0b28.inferenc'
    b'e.SystemSharedMemoryStatusResponse.RegionStatusR\x05value:\x028\x01"~'
    b'\n!SystemSharedMemoryRegisterRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x10\n\x03k'
    b'ey\x18\x02 \x01(\tR\x03key\x12\x16\n\x06offset\x18\x03 \x01(\x04R\x06offset\x12\x1b\n\tbyte_size\x18\x04 \x01(\x04R\x08by'
    b'teSize"$\n"SystemSharedMemoryRegisterResponse"9\n#SystemShared'
    b'MemoryUnregisterRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name"&\n$SystemSharedM'
    b'emoryUnregisterResponse"3\n\x1dCudaSharedMemoryStatusRequest\x12\x12\n\x04'
    b'name\x18\x01 \x01(\tR\x04name"\xc4\x02\n\x1eCudaSharedMemoryStatusResponse\x12P\n\x07regio'
    b'ns\x18\x01 \x03(\x0b26.inference.CudaSharedMemoryStatusResponse.RegionsE'
    b'ntryR\x07regions\x1a\\\n\x0cRegionStatus\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1b\n\tdevice_'
    b'id\x18\x02 \x01(\x04R\x08deviceId\x12\x1b\n\tbyte_size\x18\x03 \x01(\x04R\x08byteSize\x1ar\n\x0cRegionsEn'
    b'try\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12L\n\x05value\x18\x02 \x01(\x0b26.inference.CudaSharedM'
    b'emoryStatusResponse.RegionStatusR\x05value:\x028\x01"\x8e\x01\n\x1fCudaSharedMe'
    b'moryRegisterRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x12\x1d\n\nraw_handle\x18\x02 \x01(\x0cR'
    b'\trawHandle\x12\x1b\n\tdevice_id\x18\x03 \x01(\x03R\x08deviceId\x12\x1b\n\tbyte_size\x18\x04 \x01(\x04R\x08'
    b'byteSize""\n CudaSharedMemoryRegisterResponse"7\n!CudaSharedMe'
    b'moryUnregisterRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name"$\n"CudaSharedMemor'
    b'yUnregisterResponse"\x8e\x02\n\x13TraceSettingRequest\x12H\n\x08settings\x18\x01 \x03('
    b'\x0b2,.inference.TraceSettingRequest.SettingsEntryR\x08settings\x12\x1d\n'
    b'\nmodel_name\x18\x02 \x01(\tR\tmodelName\x1a$\n\x0cSettingValue\x12\x14\n\x05value\x18\x01 \x03(\tR'
    b'\x05value\x1ah\n\rSettingsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12A\n\x05value\x18\x02 \x01(\x0b2+.i'
    b'nference.TraceSettingRequest.SettingValueR\x05value:\x028\x01"\xf2\x01\n\x14Tra'
    b'ceSettingResponse\x12I\n\x08settings\x18\x01 \x03(\x0b2-.inference.TraceSetting'
    b'Response.SettingsEntryR\x08settings\x1a$\n\x0cSettingValue\x12\x14\n\x05value\x18\x01 '
    b'\x03(\tR\x05value\x1ai\n\rSettingsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12B\n\x05value\x18\x02 \x01(\x0b'
    b'2,.inference.TraceSettingResponse.SettingValueR\x05value:\x028\x01"\xd6\x02'
    b'\n\x12LogSettingsRequest\x12G\n\x08settings\x18\x01 \x03(\x0b2+.inference.LogSettin'
    b'gsRequest.SettingsEntryR\x08settings\x1a\x8d\x01\n\x0cSettingValue\x12\x1f\n\nbool_p'
    b'aram\x18\x01 \x01(\x08H\x00R\tboolParam\x12#\n\x0cuint32_param\x18\x02 \x01(\rH\x00R\x0buint32Param'
    b'\x12#\n\x0cstring_param\x18\x03 \x01(\tH\x00R\x0bstringParamB\x12\n\x10parameter_choice\x1ag\n'
    b'\rSettingsEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12@\n\x05value\x18\x02 \x01(\x0b2*.inference.'
    b'LogSettingsRequest.SettingValueR\x05value:\x028\x01"\xd9\x02\n\x13LogSettingsRe'
    b'sponse\x12H\n\x08settings\x18\x01 \x03(\x0b2,.inference.LogSettingsResponse.Set'
    b'tingsEntryR\x08settings\x1a\x8d\x01\n\x0cSettingValue\x12\x1f\n\nbool_param\x18\x01 \x01(\x08H\x00R'
    b'\tboolParam\x12#\n\x0cuint32_param\x18\x02 \x01(\rH\x00R\x0buint32Param\x12#\n\x0cstring_pa'
    b'ram\x18\x03 \x01(\tH\x00R\x0bstringParamB\x12\n\x10parameter_choice\x1ah\n\rSettingsEntr'
    b'y\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12A\n\x05value\x18\x02 \x01(\x0b2+.inference.LogSettingsRe'
    b'sponse.SettingValueR\x05value:\x028\x01*\xfa\x01\n\x08DataType\x12\x10\n\x0cTYPE_INVALID\x10'
    b'\x00\x12\r\n\tTYPE_BOOL\x10\x01\x12\x0e\n\nTYPE_UINT8\x10\x02\x12\x0f\n\x0bTYPE_UINT16\x10\x03\x12\x0f\n\x0bTYPE_UI'
    b'NT32\x10\x04\x12\x0f\n\x0bTYPE_UINT64\x10\x05\x12\r\n\tTYPE_INT8\x10\x06\x12\x0e\n\nTYPE_INT16\x10\x07\x12\x0e\n\nTY'
    b'PE_INT32\x10\x08\x12\x0e\n\nTYPE_INT64\x10\t\x12\r\n\tTYPE_FP16\x10\n\x12\r\n\tTYPE_FP32\x10\x0b\x12\r\n\t'
    b'TYPE_FP64\x10\x0c\x12\x0f\n\x0bTYPE_STRING\x10\r\x12\r\n\tTYPE_BF16\x10\x0e2\x8e\x0f\n\x14GRPCInferenc'
    b'eService\x12I\n\nServerLive\x12\x1c.inference.ServerLiveRequest\x1a\x1d.infer'
    b'ence.ServerLiveResponse\x12L\n\x0bServerReady\x12\x1d.inference.ServerRea'
    b'dyRequest\x1a\x1e.inference.ServerReadyResponse\x12I\n\nModelReady\x12\x1c.in'
    b'ference.ModelReadyRequest\x1a\x1d.inference.ModelReadyResponse\x12U\n\x0e'
    b'ServerMetadata\x12 .inference.ServerMetadataRequest\x1a!.inference'
    b'.ServerMetadataResponse\x12R\n\rModelMetadata\x12\x1f.inference.ModelMe'
    b'tadataRequest\x1a .inference.ModelMetadataResponse\x12L\n\x0bModelConf'
    b'ig\x12\x1d.inference.ModelConfigRequest\x1a\x1e.inference.ModelConfigRes'
    b'ponse\x12X\n\x0fModelStatistics\x12!.inference.ModelStatisticsRequest\x1a'
    b'".inference.ModelStatisticsResponse\x12I\n\nModelInfer\x12\x1c.inferenc'
    b'e.ModelInferRequest\x1a\x1d.inference.ModelInferResponse\x12Y\n\x10ModelS'
    b'treamInfer\x12\x1c.inference.ModelInferRequest\x1a#.inference.ModelSt'
    b'reamInferResponse(\x010\x01\x12X\n\x0fRepositoryIndex\x12!.inference.Reposit'
    b'oryIndexRequest\x1a".inference.RepositoryIndexResponse\x12d\n\x13Repos'
    b'itoryModelLoad\x12%.inference.RepositoryModelLoadRequest\x1a&.infe'
    b"rence.RepositoryModelLoadResponse\x12j\n\x15RepositoryModelUnload\x12'"
    b'.inference.RepositoryModelUnloadRequest\x1a(.inference.Reposito'
    b'ryModelUnloadResponse\x12s\n\x18SystemSharedMemoryStatus\x12*.inferenc'
    b'e.SystemSharedMemoryStatusRequest\x1a+.inference.SystemSharedMe'
    b'moryStatusResponse\x12y\n\x1aSystemSharedMemoryRegister\x12,.inference'
    b'.SystemSharedMemoryRegisterRequest\x1a-.inference.SystemSharedM'
    b'emoryRegisterResponse\x12\x7f\n\x1cSystemSharedMemoryUnregister\x12..infe'
    b'rence.SystemSharedMemoryUnregisterRequest\x1a/.inference.System'
    b'SharedMemoryUnregisterResponse\x12m\n\x16CudaSharedMemoryStatus\x12(.i'
    b'nference.CudaSharedMemoryStatusRequest\x1a).inference.CudaShare'
    b'dMemoryStatusResponse\x12s\n\x18CudaSharedMemoryRegister\x12*.inferenc'
    b'e.CudaSharedMemoryRegisterRequest\x1a+.inference.CudaSharedMemo'
    b'ryRegisterResponse\x12y\n\x1aCudaSharedMemoryUnregister\x12,.inference'
    b'.CudaSharedMemoryUnregisterRequest\x1a-.inference.CudaSharedMem'
    b'oryUnregisterResponse\x12O\n\x0cTraceSetting\x12\x1e.inference.TraceSetti'
    b'ngRequest\x1a\x1f.inference.TraceSettingResponse\x12L\n\x0bLogSettings\x12\x1d.'
    b'inference.LogSettingsRequest\x1a\x1e.inference.LogSettingsResponse'
    b'b\x06proto3'
)

SERVICE = _FILE.services_by_name["GRPCInferenceService"]

DataType = enum_type_wrapper.EnumTypeWrapper(_FILE.enum_types_by_name["DataType"])
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
ModelVersionPolicy = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelVersionPolicy"])
ModelQueuePolicy = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelQueuePolicy"])
ModelDynamicBatching = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelDynamicBatching"])
ModelTransactionPolicy = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelTransactionPolicy"])
ModelParameter = message_factory.GetMessageClass(_FILE.message_types_by_name["ModelParameter"])
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
