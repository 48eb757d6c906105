# To be sourced: test servers from docker-compose.yml, under a project name of their own so that nothing else is touched.

compose_project="tasklocks-test-$$"

compose() {
    docker compose --project-name "$compose_project" "$@" </dev/null
}

# compose_up SERVICE...: start the services, wait until they are healthy, and export their TASKLOCKS_TEST_*_URL.
compose_up() {
    TASKLOCKS_REDIS_PORT='' TASKLOCKS_RABBITMQ_PORT='' TASKLOCKS_MONGODB_PORT='' TASKLOCKS_ETCD_PORT='' \
        TASKLOCKS_ZOOKEEPER_PORT='' compose up --detach --wait --wait-timeout 180 "$@"
    local service
    for service in "$@"; do
        case $service in
            redis) export TASKLOCKS_TEST_REDIS_URL="redis://$(compose port redis 6379)/0" ;;
            rabbitmq) export TASKLOCKS_TEST_RABBITMQ_URL="amqp://guest:guest@$(compose port rabbitmq 5672)//" ;;
            mongodb) export TASKLOCKS_TEST_MONGODB_URL="mongodb://$(compose port mongodb 27017)/tests?directConnection=true" ;;
            etcd) export TASKLOCKS_TEST_ETCD_URL="etcd://$(compose port etcd 2379)" ;;
            zookeeper) export TASKLOCKS_TEST_ZOOKEEPER_URL="zookeeper://$(compose port zookeeper 2181)" ;;
        esac
    done
}

compose_down() {
    compose down --volumes --timeout 5
}
