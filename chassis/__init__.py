"""The microservice chassis every process stands on; it holds no business word and imports none of ours."""
