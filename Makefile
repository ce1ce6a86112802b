# edgevla: `make help` says what there is.
setup:
	@sh scripts/setup.sh
