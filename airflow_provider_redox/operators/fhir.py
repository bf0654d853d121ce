"""FHIR operators: search, read one resource, write back."""

from airflow_provider_redox.operators.fhir_read import RedoxFhirReadOperator
from airflow_provider_redox.operators.fhir_search import RedoxFhirSearchOperator
from airflow_provider_redox.operators.fhir_writeback import RedoxFhirWritebackOperator

__all__ = ["RedoxFhirReadOperator", "RedoxFhirSearchOperator", "RedoxFhirWritebackOperator"]
