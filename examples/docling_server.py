"""python examples/docling_server.py URL FILE QUESTION: `ixc serve` reads pages for docling's VLM pipeline."""

import sys

from docling.datamodel.base_models import InputFormat
from docling.datamodel.pipeline_options import VlmPipelineOptions
from docling.datamodel.pipeline_options_vlm_model import ApiVlmOptions, ResponseFormat
from docling.document_converter import DocumentConverter, ImageFormatOption, PdfFormatOption
from docling.pipeline.vlm_pipeline import VlmPipeline


def main(url: str, path: str, question: str) -> None:
    """Every page goes to the server with the question; the answers become the document."""
    server = ApiVlmOptions(
        url=f"{url}/v1/chat/completions",
        params={"model": "nano", "hd": 9, "max_tokens": 64},
        prompt=question,
        timeout=600,
        scale=1.0,
        temperature=0.0,
        response_format=ResponseFormat.MARKDOWN,
    )
    options = VlmPipelineOptions(enable_remote_services=True, vlm_options=server)
    converter = DocumentConverter(
        format_options={
            InputFormat.PDF: PdfFormatOption(pipeline_cls=VlmPipeline, pipeline_options=options),
            InputFormat.IMAGE: ImageFormatOption(pipeline_cls=VlmPipeline, pipeline_options=options),
        }
    )
    print(converter.convert(path).document.export_to_markdown())


main(*sys.argv[1:])
