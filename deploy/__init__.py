"""How the processes are packed and run: the image, Compose, Kubernetes."""
