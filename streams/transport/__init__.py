"""All that knows Faust and aiokafka: the worker, its frames, the real broker and the fence."""
