"""The clouds' own clients, as they are, against a server that runs by their contract."""

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from small_models import WEIGHT, linear_model

from tessera.serve import ProductionServer

pytestmark = pytest.mark.filterwarnings(
    # Not ours to mend: what the clients' packages say when they are imported.
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::PendingDeprecationWarning",
    "ignore::UserWarning",
)


def serve(contract: str, **settings: Any) -> ProductionServer:
    config = {"port": 0, "host": "127.0.0.1", "contract": contract, **settings}
    return ProductionServer(linear_model(), config)


@pytest.fixture
def rows(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    return rng.standard_normal((3, 4)).astype(np.float32)


@pytest.fixture
def sagemaker() -> Iterator[Any]:
    """boto3's client of the runtime, pointed at a server."""
    boto3 = pytest.importorskip("boto3")
    from botocore.config import Config

    with serve("sagemaker") as server:
        yield boto3.client(
            "sagemaker-runtime",
            endpoint_url=server.url,
            region_name="us-east-1",
            aws_access_key_id="none",
            aws_secret_access_key="none",
            config=Config(retries={"max_attempts": 0}),
        )


def test_boto3_invokes_with_json(sagemaker: Any, rows: np.ndarray[Any, Any]) -> None:
    answer = sagemaker.invoke_endpoint(
        EndpointName="model", ContentType="application/json", Body=json.dumps({"input": rows.tolist()})
    )
    assert answer["ContentType"] == "application/json"
    output = json.loads(answer["Body"].read())["output"]
    np.testing.assert_allclose(output, rows.astype(np.float64) @ WEIGHT, rtol=1e-5, atol=1e-5)


def test_boto3_invokes_with_npy_and_csv(sagemaker: Any, rows: np.ndarray[Any, Any]) -> None:
    stream = io.BytesIO()
    np.save(stream, rows)
    answer = sagemaker.invoke_endpoint(
        EndpointName="model",
        ContentType="application/x-npy",
        Accept="application/x-npy",
        Body=stream.getvalue(),
        CustomAttributes="trace=1",
        InferenceId="7",
    )
    expected = rows.astype(np.float64) @ WEIGHT
    output = np.load(io.BytesIO(answer["Body"].read()), allow_pickle=False)
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)
    text = "\n".join(",".join(map(str, row.tolist())) for row in rows)
    answer = sagemaker.invoke_endpoint(
        EndpointName="model", ContentType="text/csv", Accept="text/csv", Body=text
    )
    lines = answer["Body"].read().decode().splitlines()
    np.testing.assert_allclose(
        [[float(v) for v in line.split(",")] for line in lines], expected, rtol=1e-5, atol=1e-5
    )


def test_boto3_reports_what_the_server_says(sagemaker: Any) -> None:
    from botocore.exceptions import ClientError

    with pytest.raises(ClientError) as caught:
        sagemaker.invoke_endpoint(EndpointName="model", ContentType="text/csv", Body="1,2\n")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.fixture
def vertex() -> Iterator[Any]:
    """Google's client of the prediction service over REST, pointed at a server."""
    pytest.importorskip("google.cloud.aiplatform_v1")
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.aiplatform_v1 import PredictionServiceClient
    from google.cloud.aiplatform_v1.services.prediction_service.transports import (
        PredictionServiceRestTransport,
    )

    with serve("vertex") as server:
        transport = PredictionServiceRestTransport(
            host=server.url.removeprefix("http://"), url_scheme="http", credentials=AnonymousCredentials()
        )
        yield PredictionServiceClient(transport=transport)


ENDPOINT = "projects/p/locations/us-central1/endpoints/1"


def test_googles_client_predicts(vertex: Any, rows: np.ndarray[Any, Any]) -> None:
    answer = vertex.predict(endpoint=ENDPOINT, instances=rows.tolist())
    output = [list(row) for row in answer.predictions]
    np.testing.assert_allclose(output, rows.astype(np.float64) @ WEIGHT, rtol=1e-5, atol=1e-5)


def test_googles_client_reports_what_the_server_says(vertex: Any) -> None:
    from google.api_core.exceptions import BadRequest

    with pytest.raises(BadRequest, match="'x' of shape"):
        vertex.predict(endpoint=ENDPOINT, instances=[[1, 2]])
