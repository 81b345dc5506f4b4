"""A case's features as Feast knows them: its repository, its objects, its offline store."""
