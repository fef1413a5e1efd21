"""Two workers; logs without addresses."""

import os

import examples.application.app  # noqa: F401  # once, before the workers are forked: they start in a moment

workers = 2
bind = os.environ["APPLICATION_BIND"]
logger_class = "backfill.web.gunicorn_logger.HashLogger"
accesslog = os.environ["APPLICATION_ACCESS_LOG"]
errorlog = os.environ["APPLICATION_ERROR_LOG"]
access_log_format = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" "%({x-forwarded-for}i)s"'
control_socket_disable = True
