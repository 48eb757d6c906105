# To be sourced: test servers from docker-compose.yml, under a project name of their own so that nothing else is touched.

compose_project="tasklocks-test-$$"

compose() {
    docker compose --project-name "$compose_project" "$@" </dev/null
}

# compose_up SERVICE...: start the services, wait until they are healthy, and export their TASKLOCKS_TEST_*_URL.
compose_up() {
    TASKLOCKS_REDIS_PORT='' TASKLOCKS_RABBITMQ_PORT='' compose up --detach --wait --wait-timeout 120 "$@"
    local service
    for service in "$@"; do
        case $service in
            redis) export TASKLOCKS_TEST_REDIS_URL="redis://$(compose port redis 6379)/0" ;;
            rabbitmq) export TASKLOCKS_TEST_RABBITMQ_URL="amqp://guest:guest@$(compose port rabbitmq 5672)//" ;;
        esac
    done
}

compose_down() {
    compose down --volumes --timeout 5
}
